"""Near duplicates are found by Jaccard similarity of word triples, the earlier one stays, and chance plays no part."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.data import duplicates
from shuyuan.data.duplicates import SLOTS, Sketches, exact_repeats, shingles_of, sketched

WORDS = [f"word{number}" for number in range(3000)]


def changed(text: str, share: float, choose: random.Random) -> str:
    return " ".join(word if choose.random() > share else choose.choice(WORDS) for word in text.split())


def jaccard(one: str, other: str) -> float:
    first, second = (
        {tuple(([*words, "", ""])[at : at + 3]) for at in range(len(words))}
        for words in (one.split(), other.split())
    )
    return len(first & second) / len(first | second)


def near(texts: list[str]) -> list[int]:
    sketches = Sketches()
    for start in range(0, len(texts), 7):
        sketches.add(*sketched(texts[start : start + 7]))
    return np.flatnonzero(sketches.repeats(np.arange(len(texts)))).tolist()


def test_found_when_alike_and_not_when_different() -> None:
    choose = random.Random(1)
    originals = [" ".join(choose.choices(WORDS, k=200)) for _ in range(200)]
    copies = [changed(text, share, choose) for text in originals for share in (0.01, 0.15)]
    found = set(near(originals + copies))
    assert not found & set(range(200))
    for place, copy in enumerate(copies):
        similarity = jaccard(originals[place // 2], copy)
        if similarity >= 0.9:
            assert 200 + place in found, similarity
        if similarity <= 0.65:
            assert 200 + place not in found, similarity


def test_the_estimate_is_not_biased() -> None:
    choose = random.Random(2)
    errors = []
    for _ in range(100):
        one = " ".join(choose.choices(WORDS, k=150))
        other = changed(one, 0.06, choose)
        sketches = Sketches()
        sketches.add(*sketched([one, other]))
        errors.append(float((sketches._sketch_RS[0] == sketches._sketch_RS[1]).mean()) - jaccard(one, other))
    assert abs(float(np.mean(errors))) < 0.02


def test_case_punctuation_and_spaces_do_not_count() -> None:
    text = " ".join(WORDS[:60])
    assert near([text, text.upper(), text.replace(" ", ",  \n"), "other words entirely " * 10]) == [1, 2]


def test_chinese_is_compared_by_character() -> None:
    choose = random.Random(3)
    text = "".join(chr(choose.randrange(0x4E00, 0x9000)) for _ in range(120))
    assert near([text, text[:60] + "，" + text[60:119] + "变", text[::-1]]) == [1]


def test_texts_without_words_are_nobodys_duplicates() -> None:
    assert near(["...", "!!!", "", "¿?", "one", "two"]) == []


def test_short_texts_are_alike_only_when_equal() -> None:
    assert near(
        ["the tiny record number 17 of many", "the tiny record number 18 of many", "one", "One!"]
    ) == [3]


def test_a_crowded_band_takes_no_quadratic_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of records that share a band and are not alike: the rounds are bounded."""
    compared = 0
    real = Sketches._alike

    def counting(self: Sketches, one: np.ndarray, other: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        nonlocal compared
        compared += len(one)
        return real(self, one, other)

    monkeypatch.setattr(Sketches, "_alike", counting)
    sketches = Sketches()
    count = 5000
    sketches._sketch_RS[:count] = np.random.default_rng(0).integers(0, 256, (count, SLOTS), np.uint8)
    sketches._sketch_RS[:count, :8] = 7
    sketches._has_words_R[:count] = True
    sketches.count = count
    assert not sketches.repeats(np.arange(count)).any()
    assert compared <= 40 * count


def test_the_preferred_record_stays() -> None:
    text = " ".join(WORDS[:80])
    sketches = Sketches()
    sketches.add(*sketched([text, text + " more", "something else altogether here"]))
    assert sketches.repeats(np.array([1, 0, 2])).tolist() == [True, False, False]
    digests = np.array([5, 5, 6], np.uint64)
    assert exact_repeats(digests, np.array([0, 1, 2])).tolist() == [False, True, False]
    assert exact_repeats(digests, np.array([1, 0, 2])).tolist() == [True, False, False]
    assert exact_repeats(digests, np.array([0, 2])).tolist() == [False, False, False]


def test_records_past_the_limit_are_not_sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "NEAR_LIMIT", 3)
    sketches = Sketches()
    sketches.add(*sketched(["same words here now"] * 2))
    sketches.add(*sketched(["same words here now"] * 2))
    assert sketches.count == 3
    assert sketches.repeats(np.arange(4)).tolist() == [False, True, True]


def slow_words(text: str) -> list[str]:
    words: list[str] = []
    inside = False
    for character in text.lower():
        alone = any(begin <= ord(character) <= end for begin, end in duplicates._ALONE_RANGES)
        if not character.isalnum():
            inside = False
        elif alone:
            words.append(character)
            inside = False
        elif inside:
            words[-1] += character
        else:
            words.append(character)
            inside = True
    return words


@given(st.lists(st.text(st.sampled_from("abC1 ,\n书院カ한é"), max_size=20), min_size=1, max_size=5))
def test_equal_triples_have_equal_hashes_and_others_not(texts: list[str]) -> None:
    shingles, ends = shingles_of(texts)
    triples = []
    for text in texts:
        words = [*slow_words(text), "", ""]
        triples.append([tuple(words[at : at + 3]) for at in range(len(words) - 2)])
    assert np.diff(ends).tolist() == [len(part) for part in triples]
    flat = [triple for part in triples for triple in part]
    assert (
        len(set(flat)) == len(set(shingles.tolist())) == len(set(zip(flat, shingles.tolist(), strict=True)))
    )


def test_the_same_in_every_process() -> None:
    program = "from shuyuan.data.duplicates import sketched; print(sketched(['one two three four 书院'])[0][0].tolist())"
    shown = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    assert shown[0].stdout == shown[1].stdout
    assert shown[0].stdout.strip() == str(sketched(["one two three four 书院"])[0][0].tolist())
