"""Sampling against brute force, and its laws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shuyuan.errors import ShuyuanError
from shuyuan.inference.sampling import Floats, Points, Sampling, choose, probabilities

numbers = st.floats(-30, 30, width=32)
# Few distinct values too, so that ties happen.
logits_lists = st.lists(numbers | st.integers(-2, 2).map(float), min_size=1, max_size=12)
temperatures = st.floats(0.05, 5)
shares = st.floats(0.01, 1)


def plain(logits: list[float], temperature: float) -> list[float]:
    best = max(logits)
    weights = [math.exp((logit - best) / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def floats(numbers: list[float]) -> Floats:
    return np.array(numbers, np.float32)


def drawn(logits: list[float], sampling: Sampling, seed: int = 0) -> int:
    return choose(floats(logits), sampling, Points(seed))


@given(logits_lists, temperatures, st.none() | st.integers(1, 15), st.none() | shares)
@hypothesis_settings(deadline=None)
def test_probabilities_sum_to_one(
    logits: list[float], temperature: float, top_k: int | None, top_p: float | None
) -> None:
    result = probabilities(floats(logits), Sampling(temperature, top_k, top_p))
    assert result.dtype == np.float32
    assert (result >= 0).all()
    assert abs(result.sum().item() - 1) < 1e-5


@given(logits_lists, temperatures)
@hypothesis_settings(deadline=None)
def test_without_limits_it_is_the_softmax(logits: list[float], temperature: float) -> None:
    result = probabilities(floats(logits), Sampling(temperature))
    np.testing.assert_allclose(result, plain(logits, temperature), rtol=1e-4, atol=1e-6)


@given(logits_lists, temperatures)
@hypothesis_settings(deadline=None)
def test_limits_that_allow_all_change_nothing(logits: list[float], temperature: float) -> None:
    values = floats(logits)
    free = probabilities(values, Sampling(temperature))
    assert np.array_equal(probabilities(values, Sampling(temperature, top_k=len(logits))), free)
    assert np.array_equal(probabilities(values, Sampling(temperature, top_p=1.0)), free)


@given(logits_lists, temperatures, st.integers(1, 12))
@hypothesis_settings(deadline=None)
def test_top_k_keeps_the_k_likeliest(logits: list[float], temperature: float, k: int) -> None:
    kept = probabilities(floats(logits), Sampling(temperature, top_k=k)) > 0
    ranked = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    assert {token for token in ranked if kept[token]} <= set(ranked[:k])
    exact = plain(logits, temperature)
    assert {token for token in ranked[:k] if exact[token] > 1e-30} <= {
        token for token in ranked if kept[token]
    }


@given(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=7), shares)
@hypothesis_settings(deadline=None)
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits: list[float], share: float) -> None:
    """Brute force over all sets of tokens."""
    exact, tokens = plain(logits, 1.0), range(len(logits))
    sets = [chosen for n in range(1, len(logits) + 1) for chosen in itertools.combinations(tokens, n)]
    sums = {chosen: sum(exact[token] for token in chosen) for chosen in sets}
    if min(abs(total - share) for total in sums.values()) < 1e-5:
        return  # on the edge, rounding decides
    result = probabilities(floats(logits), Sampling(1.0, top_p=share))
    kept = tuple(result.nonzero()[0].tolist())
    smallest = min(len(chosen) for chosen in sets if sums[chosen] > share)
    assert len(kept) == smallest
    assert sums[kept] == pytest.approx(max(sums[chosen] for chosen in sets if len(chosen) == smallest))
    np.testing.assert_allclose(result[list(kept)], [exact[t] / sums[kept] for t in kept], rtol=1e-5)


def test_top_p_counts_what_top_k_left() -> None:
    """0.5, 0.3, 0.2: of the first two, the first has 0.625, which is enough for 0.6."""
    logits = np.log(floats([0.5, 0.3, 0.2]))
    np.testing.assert_allclose(probabilities(logits, Sampling(1.0, 2, 0.6)), [1.0, 0.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(
        probabilities(logits, Sampling(1.0, None, 0.6)), [0.625, 0.375, 0.0], rtol=1e-6
    )


def test_ties_go_to_the_lower_token() -> None:
    logits = floats([0.0] * 50)
    assert probabilities(logits, Sampling(1.0, top_k=2)).nonzero()[0].tolist() == [0, 1]
    assert probabilities(logits, Sampling(1.0, top_p=0.05)).nonzero()[0].tolist() == [0, 1, 2]


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=12, unique=True), st.integers(0, 1000))
@hypothesis_settings(deadline=None)
def test_greedy_is_the_limit_of_low_temperature(logits: list[int], seed: int) -> None:
    values = [float(logit) for logit in logits]
    best = values.index(max(values))
    for temperature in (0.0, 1e-3, 1e-30, 5e-324):
        assert drawn(values, Sampling(temperature), seed) == best


def test_greedy_takes_no_random_number() -> None:
    points = Points(1)
    choose(floats([1.0, 2.0]), Sampling(0.0), points)
    assert points.drawn == 0


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    shares = floats([0.1, 0.0, 0.6, 0.3])
    with np.errstate(divide="ignore"):
        logits = np.log(shares)
    points = Points(4)
    counts = np.bincount([choose(logits, Sampling(1.0), points) for _ in range(4000)], minlength=4)
    assert counts[1] == 0
    np.testing.assert_allclose(counts / 4000, shares, rtol=0, atol=0.03)


def test_a_forbidden_token_is_never_drawn() -> None:
    logits = [-math.inf, 0.0, -math.inf]
    assert {drawn(logits, Sampling(100.0), seed) for seed in range(50)} == {1}


@pytest.mark.parametrize(("point", "token"), [(0.0, 1), (0.25, 3), (1 - 2**-53, 4)])
def test_the_edges_of_the_interval_belong_to_likely_tokens(
    point: float, token: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random number of exactly 0, exactly on a border, or the largest there is."""
    monkeypatch.setattr(Points, "next", lambda self: point)
    assert drawn([-math.inf, 0.0, -math.inf, 0.0, math.log(2), -math.inf], Sampling(1.0)) == token


@given(logits_lists, st.integers(0, 2**63 - 1))
@hypothesis_settings(deadline=None)
def test_the_seed_decides(logits: list[float], seed: int) -> None:
    state = np.random.get_state()[2]
    assert drawn(logits, Sampling(1.0), seed) == drawn(logits, Sampling(1.0), seed)
    assert np.random.get_state()[2] == state


@given(st.integers(0, 2**63 - 1))
@hypothesis_settings(deadline=None)
def test_the_points_are_those_that_torch_draws(seed: int) -> None:
    """So a seed gives the same text whether or not torch is there."""
    points, generator = Points(seed), torch.Generator().manual_seed(seed)
    wanted = [torch.rand((), generator=generator, dtype=torch.float64).item() for _ in range(3)]
    assert [points.next() for _ in range(3)] == wanted


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_broken_model_is_said_to_be_broken(bad: float, temperature: float) -> None:
    with pytest.raises(ShuyuanError, match=r"inference\.no-numbers"):
        drawn([1.0, bad, 2.0], Sampling(temperature))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": -5}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float], name: str) -> None:
    with pytest.raises(
        ShuyuanError, match=rf"`{name}` = .* is refused\. It must be .*\[inference\.bad-setting\]"
    ):
        Sampling(**settings)  # type: ignore[arg-type]
