"""Places: the likeliest stretch of all, over windows, never in the question, and none where none is likelier."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.data import Asked
from shuyuan.errors import ShuyuanError
from shuyuan.inference import Spanner, spans
from shuyuan.inference.spans import likeliest
from tests.span_runs import words_tokenizer

WORTH = {"red": 5.0, "blue": 9.0}


class Finder:
    """Thinks what it likes of some words, of one as the first, of the next as the last, and 6 of nowhere."""

    config, context = SimpleNamespace(output="spans", labels=()), 16

    def places(self, inputs_B2T: Any) -> Any:
        names = {number: word for word, number in words_tokenizer()._hub.get_vocab().items()}
        logits_B2T = np.full(inputs_B2T.shape, -9.0, np.float32)
        for row, (ids_T, _) in zip(logits_B2T, inputs_B2T, strict=True):
            row[:, 0] = 3.0
            for place, token in enumerate(ids_T.tolist()):
                if names.get(token) in WORTH:
                    row[:, place] = WORTH[names[token]]
        return logits_B2T


@pytest.fixture
def spanner(monkeypatch: pytest.MonkeyPatch) -> Spanner:
    monkeypatch.setattr(spans, "computed", lambda model, precision: model)
    return Spanner(Finder(), words_tokenizer())  # type: ignore[arg-type]


def test_the_best_of_all_windows_is_taken_with_its_place(spanner: Spanner) -> None:
    text = "Red. " + "so it was " * 12 + "BLUE then " + "and there " * 9
    pairs = [("what is blue", text), ("what is blue", "so it was"), ("what", "the Red")]
    found = list(spanner.find(pairs, count=3))
    assert [text[each.start : each.stop] for each in found[0][:2]] == ["BLUE", "Red"]
    assert [each.score for each in found[0][:2]] == [12.0, 4.0]
    assert len({(each.start, each.stop) for each in found[0]}) == 3, "no place twice"
    assert found[1][0].score < 0, "what stands in the question is no answer"
    assert found[2][0][1:] == (4, 7)
    assert list(spanner.find([("what", "")])) == [[]]
    assert list(spanner.find([])) == []


def test_answers_are_the_same_however_many_are_asked_at_once(
    spanner: Spanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [("what", f"so {'it ' * number}red was blue") for number in range(30)]
    whole = list(spanner.find(pairs))
    monkeypatch.setattr(spans, "BATCH", 3)
    assert list(spanner.find(pairs)) == whole
    assert all(len(each) == 1 for each in whole)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 14), st.integers(1, 9), st.integers(0, 99))
def test_the_likeliest_are_those_of_all_stretches(size: int, longest: int, count: int, seed: int) -> None:
    logits_2S = np.random.default_rng(seed).normal(size=(2, size)).astype(np.float32)
    every = sorted(
        (
            (float(logits_2S[0, first]) + float(logits_2S[1, last]), first, last + 1)
            for first in range(size)
            for last in range(first, min(size, first + longest))
        ),
        reverse=True,
    )
    assert likeliest(logits_2S, longest, count) == every[:count]


def test_a_model_that_does_something_else_is_refused() -> None:
    model = SimpleNamespace(config=SimpleNamespace(output="labels"))
    with pytest.raises(ShuyuanError, match=r"inference\.no-places"):
        Spanner(model, words_tokenizer())  # type: ignore[arg-type]
    assert Asked([1], [2]).answer is None
