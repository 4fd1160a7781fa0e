"""The bigram baseline is a probability and equals the textbook formula, counted the slow way."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.evaluate.bigram import Bigram

streams = st.lists(st.integers(0, 6), min_size=2, max_size=60)


def pairs(stream: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    tokens = np.array(stream)
    return [(tokens[:-1], tokens[1:])]


def slow(stream: list[int], vocab: int, token: int, following: int) -> float:
    """Interpolated Kneser-Ney, straight from the formula."""
    counts = Counter(pairwise(stream))
    once = sum(1 for count in counts.values() if count == 1)
    twice = sum(1 for count in counts.values() if count == 2)
    discount = once / (once + 2 * twice) if once else 0.5
    before = Counter(second for _, second in counts)
    kinds = len(counts)
    continuation = max(before[following] - discount, 0) / kinds + discount * len(before) / kinds / vocab
    total = sum(count for (first, _), count in counts.items() if first == token)
    if not total:
        return continuation
    followers = sum(1 for first, _ in counts if first == token)
    return max(counts[token, following] - discount, 0) / total + discount * followers / total * continuation


@given(streams)
def test_sums_to_one(stream: list[int]) -> None:
    bigram = Bigram(7)
    bigram.fit(pairs(stream))
    everything = np.arange(7)
    for token in range(7):
        assert np.isclose(bigram.probability(np.full(7, token), everything).sum(), 1.0)


@given(streams)
def test_equals_the_formula(stream: list[int]) -> None:
    bigram = Bigram(7)
    bigram.fit(pairs(stream))
    for token in range(7):
        for following in range(7):
            fast = bigram.probability(np.array([token]), np.array([following]))[0]
            assert np.isclose(fast, slow(stream, 7, token, following))


@given(streams, st.integers(1, 5))
def test_counting_in_batches_changes_nothing(stream: list[int], size: int) -> None:
    whole, parts = Bigram(7), Bigram(7)
    (inputs, targets) = pairs(stream)[0]
    whole.fit([(inputs, targets)])
    parts.fit([(inputs[at : at + size], targets[at : at + size]) for at in range(0, len(inputs), size)])
    assert np.isclose(whole.loss(pairs(stream)), parts.loss(pairs(stream)))


def test_padding_is_passed_over() -> None:
    bigram = Bigram(4)
    bigram.fit([(np.array([0, 1, 2]), np.array([1, 2, -100]))])
    assert np.isfinite(bigram.loss([(np.array([0, 0]), np.array([1, -100]))]))
    assert bigram.loss([(np.array([0, 0]), np.array([1, -100]))]) == bigram.loss(
        [(np.array([0]), np.array([1]))]
    )
