"""Scores are bm25s's own, and do not depend on what must not matter."""

from __future__ import annotations

import random

import bm25s
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.progress import Stage
from shuyuan.retrieval.scoring import Scoring, best, learn

WORDS = [f"w{number}" for number in range(30)]
TEXTS = [random.Random(seed).choices(WORDS, k=5 + seed % 13) for seed in range(60)]


def scoring(texts: list[list[str]] = TEXTS) -> Scoring:
    return learn(texts, Stage("index", len(texts), "passages"))


def test_the_scores_are_those_of_the_library() -> None:
    library = bm25s.BM25()
    library.index(TEXTS, show_progress=False)
    ours = scoring()
    for asked in (["w1"], ["w2", "w9"], ["w3", "w4", "w5"]):
        np.testing.assert_allclose(ours.scores(asked), library.get_scores(asked), rtol=1e-6)


@given(st.permutations(range(len(TEXTS))))
def test_the_order_of_passages_does_not_matter(order: list[int]) -> None:
    plain, mixed = scoring(), scoring([TEXTS[number] for number in order])
    assert plain.words == mixed.words == sorted(plain.words)
    np.testing.assert_array_equal(plain.scores(["w1", "w7"])[order], mixed.scores(["w1", "w7"]))


@given(st.lists(st.sampled_from([*WORDS, "unknown"]), min_size=1, max_size=8), st.randoms())
def test_order_and_repetition_of_what_is_asked_do_not_matter(asked: list[str], chance: random.Random) -> None:
    again = [*asked, *asked]
    chance.shuffle(again)
    np.testing.assert_array_equal(scoring().scores(asked), scoring().scores([*again, "also unknown"]))


def test_what_is_rare_tells_more() -> None:
    ours = scoring([["a", "b"], ["a", "c"], ["a"]])
    assert ours.rarity("nowhere") > ours.rarity("b") == ours.rarity("c") > ours.rarity("a") > 0


def test_what_is_covered() -> None:
    ours = scoring([["a", "b"], ["a", "c"], ["a"]])
    assert ours.covered(["a", "b"], 0) == 1
    assert ours.covered(["b"], 1) == ours.covered(["nowhere"], 0) == 0
    assert 0 < ours.covered(["a", "b"], 2) < ours.covered(["a", "b", "nowhere"], 0) < 1


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 12))
def test_the_best_are_the_best(values: list[int], count: int) -> None:
    found = best(np.array(values, np.float32), count)
    ranked = sorted((-value, place) for place, value in enumerate(values) if value > 0)
    assert found == [place for _, place in ranked[:count]]
