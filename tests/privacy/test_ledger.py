"""Ledgers are added up from their lines alone, each step once, and never to less than what composition says."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from shuyuan.privacy import derive, mechanism
from shuyuan.privacy.ledger import Ledger, spent, stated

DELTA = 1e-5


def line(
    first: int, last: int, draws: str, noise: float = 1.0, rate: float = 0.05, delta: float = DELTA
) -> dict[str, Any]:
    mechanism = {"noise_multiplier": noise, "sampling_rate": rate, "delta": delta}
    return {"event": "steps", "from": first, "to": last, "draws": draws, **mechanism}


spans = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 30)), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(spans)
def test_each_step_counts_once_however_the_lines_overlap(found: list[tuple[int, int]]) -> None:
    lines = [line(first, first + more, "a", noise=0) for first, more in found]
    different = {step for first, more in found for step in range(first, first + more + 1)}
    assert spent(lines).steps == len(different)
    assert spent([*lines, *(entry | {"draws": "b"} for entry in lines)]).steps == 2 * len(different)


class Noted:
    """A journal that notes in a common list who was told what."""

    def __init__(self, name: str, told: list[tuple[str, str]]) -> None:
        self.name, self.told = name, told

    def append(self, entry: dict[str, Any]) -> None:
        self.told.append((self.name, entry["event"]))

    def entries(self) -> Iterator[dict[str, Any]]:
        return iter(())


def test_every_entry_stands_in_the_data_sets_ledger_and_then_in_the_runs_own() -> None:
    told: list[tuple[str, str]] = []
    done = mechanism(units=10, expected_batch=2, steps=3, noise_multiplier=1.0)
    ledger = Ledger([Noted("data set", told), Noted("run", told)], done, bytes(32))
    ledger.allow(["tuning"])
    ledger.steps(1, 0)  # none
    ledger.steps(1, 1)
    ledger.release("model")
    events = ["allowed", "steps", "release"]
    assert told == [(name, event) for event in events for name in ("data set", "run")]


class Lines(list[dict[str, Any]]):
    """A journal whose lines are a list."""

    def entries(self) -> Iterator[dict[str, Any]]:
        return iter(self)


def test_secrets_are_told_apart_and_nothing_of_them_or_of_what_is_drawn_from_them_stands_in_a_line() -> None:
    done = mechanism(units=10, expected_batch=2, steps=3, noise_multiplier=1.0)
    draws = set()
    for secret in (bytes(range(32)), bytes(range(1, 33))):
        lines = Lines()
        Ledger([lines], done, secret).steps(1, 3)
        written = json.dumps(lines)
        keys = [secret, *(derive(secret, purpose) for purpose in ("noise", "sampling"))]
        assert not [key for key in keys for at in range(29) if key[at : at + 4].hex() in written]
        draws.add(lines[0]["draws"])
    assert len(draws) == 2


@functools.cache
def exact_from_below(parts: tuple[tuple[float, float, int], ...], delta: float) -> float:
    """A lower bound on the ε of these steps together, by the library's own optimistic rounding."""
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution as pld

    def composed(noise: float, rate: float, steps: int) -> Any:
        one = pld.from_gaussian_mechanism(
            noise,
            pessimistic_estimate=False,
            use_connect_dots=False,
            value_discretization_interval=1e-4,
            sampling_prob=rate,
            neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
        )
        return one.self_compose(steps)

    whole = functools.reduce(lambda one, other: one.compose(other), (composed(*part) for part in parts))
    return float(whole.get_epsilon_for_delta(delta))


runs = st.tuples(
    st.sampled_from([0.8, 1.0, 2.0]),
    st.sampled_from([0.01, 0.05]),
    st.integers(1, 60),
    st.sampled_from([1e-6, 1e-5]),
)


Made = tuple[float, float, int, float]  # noise multiplier, sampling rate, steps, δ


def check_two_runs(one: Made, other: Made) -> None:
    first, second = (
        line(1, steps, draws, noise, rate, delta)
        for draws, (noise, rate, steps, delta) in (("a", one), ("b", other))
    )
    both = spent([first, second])
    assert both.delta == min(one[3], other[3])
    assert both.epsilon >= exact_from_below((one[:3], other[:3]), both.delta) * (1 - 1e-9)
    assert both.epsilon >= max(spent([first]).epsilon, spent([second]).epsilon) * (1 - 1e-9)
    assert both.epsilon == spent([second, first]).epsilon


def test_two_runs_come_to_what_composition_says() -> None:
    check_two_runs((2.0, 0.05, 18, 1e-6), (2.0, 0.01, 58, 1e-5))


@pytest.mark.slow
@settings(deadline=None, max_examples=25, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(runs, runs)
def test_two_runs_come_to_at_least_their_exact_composition_and_to_no_less_than_either(
    one: Made, other: Made
) -> None:
    check_two_runs(one, other)


def test_the_sum_is_told_at_the_smaller_delta() -> None:
    """At the larger one it could be below what the stricter run stated for itself."""
    strict, lax = line(1, 300, "a", delta=1e-9), line(1, 1, "b", noise=20.0, delta=1e-2)
    assert spent([strict, lax]).epsilon >= spent([strict]).epsilon > spent([strict | {"delta": 1e-2}]).epsilon


def test_noiseless_steps_are_unbounded_and_nothing_costs_nothing() -> None:
    assert math.isinf(spent([line(1, 1, "a"), line(1, 1, "b", noise=0.0)]).epsilon)
    nothing = spent([{"event": "release", "what": "model", "draws": "a"}])
    assert (nothing.epsilon, nothing.steps, nothing.uncovered) == (0.0, 0, [])


@pytest.mark.parametrize("times", [1, 3])
def test_what_is_not_covered_is_named_once(times: int) -> None:
    leak = {"event": "allowed", "what": "scores", "cost": "not covered", "draws": "a"}
    open_run = {"event": "training", "cost": "not covered", "draws": "b"}
    assert spent([leak, open_run] * times).uncovered == ["scores", "training"]


def test_without_noise_no_epsilon_is_stated() -> None:
    done = mechanism(units=10, expected_batch=2, steps=3, noise_multiplier=0.0)
    assert stated(done, 3)["epsilon"] is None
    assert stated(done, 0)["epsilon"] == 0
