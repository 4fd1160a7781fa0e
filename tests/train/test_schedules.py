"""The learning rate's factor: pure, between 0 and 1, with the right shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.train.schedules import Schedule

from .parts import settings

KINDS = ["constant", "linear", "cosine", "wsd", "plateau"]


@given(
    kind=st.sampled_from(KINDS),
    steps=st.integers(1, 300),
    warmup=st.floats(0, 0.5),
    decay=st.floats(0, 0.5),
)
def test_factor_is_above_zero_and_at_most_one_at_every_step(
    kind: str, steps: int, warmup: float, decay: float
) -> None:
    schedule = Schedule(settings(schedule=kind, warmup=warmup, decay=decay), steps)
    factors = [schedule.factor(step) for step in range(1, steps + 1)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors == [schedule.factor(step) for step in range(1, steps + 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_warmup_rises_evenly_from_zero_to_the_peak(kind: str) -> None:
    schedule = Schedule(settings(schedule=kind, warmup=0.04, decay=0.4), 100)
    assert [schedule.factor(step) for step in (1, 2, 3, 4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert schedule.factor(5) == pytest.approx(1.0, abs=0.001)


def test_wsd_stays_and_then_decays_evenly_to_the_last_step() -> None:
    schedule = Schedule(settings(schedule="wsd", decay=0.4), 10)
    assert [schedule.factor(step) for step in range(1, 11)] == pytest.approx([1] * 6 + [0.8, 0.6, 0.4, 0.2])


def test_linear_falls_evenly_to_the_last_step() -> None:
    schedule = Schedule(settings(schedule="linear"), 4)
    assert [schedule.factor(step) for step in (1, 2, 3, 4)] == pytest.approx([1, 0.75, 0.5, 0.25])


def test_cosine_is_at_half_in_the_middle() -> None:
    schedule = Schedule(settings(schedule="cosine"), 100)
    assert schedule.factor(1) == 1
    assert schedule.factor(51) == pytest.approx(0.5)
    assert schedule.factor(100) < 0.001


def test_constant_stays() -> None:
    schedule = Schedule(settings(schedule="constant"), 10)
    assert {schedule.factor(step) for step in range(1, 11)} == {1.0}


def test_plateau_halves_when_validation_stands_still_and_its_state_resumes() -> None:
    schedule = Schedule(settings(schedule="plateau"), 10)
    schedule.validated(3.0)
    schedule.validated(2.0)
    assert schedule.factor(5) == 1
    schedule.validated(2.0)
    assert schedule.factor(5) == 0.5
    again = Schedule(settings(schedule="plateau"), 10)
    again.load(schedule.state())
    schedule.validated(2.1)
    again.validated(2.1)
    assert again.factor(6) == schedule.factor(6) == 0.25


def test_only_plateau_listens_to_validation() -> None:
    schedule = Schedule(settings(schedule="constant"), 10)
    for _ in range(5):
        schedule.validated(9.0)
    assert schedule.factor(5) == 1
