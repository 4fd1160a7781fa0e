"""What this machine's own steps take beside the formula: found from two steps, kept once, and no more believed than can be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan import hardware, planning
from shuyuan.hardware import choose_precision, detect, rates
from shuyuan.planning import pace
from shuyuan.planning.time import calling_seconds, computing_seconds
from shuyuan.progress import Progress

from .parts import CPU, RATES, make_manifest, make_recipe
from .test_memory import shape
from .test_time import predicted_costs


@given(st.floats(0.6, 2.5), st.floats(0.6, 2.5))
def test_a_machine_that_takes_so_many_times_as_long_is_found_to(computing: float, calling: float) -> None:
    def seconds(config: object, part: object) -> float:
        numbers = computing_seconds(part, config, "fp32", RATES)  # type: ignore[arg-type]
        return computing * numbers + calling * calling_seconds(config, "fp32")  # type: ignore[arg-type]

    found = pace.pace(seconds(*pace.SMALL), seconds(*pace.LARGE), "fp32", RATES)
    assert found["computing"] == pytest.approx(computing, rel=0.02)
    assert found["calling"] == pytest.approx(calling, rel=0.02)


def test_a_step_that_takes_no_time_or_for_ever_is_not_believed() -> None:
    assert set(pace.pace(0.0, 0.0, "fp32", RATES).values()) == {pace.LEAST}
    assert set(pace.pace(1e9, 1e9, "fp32", RATES).values()) == {pace.MOST}


def test_a_slow_machine_is_planned_slower() -> None:
    recipe = make_recipe(train={"batch_size": 8, "micro_batch": 8, "precision": "fp32"})
    plain, slow = (
        predicted_costs(recipe, shape(), make_manifest(10_000), CPU, each).step
        for each in (RATES, replace(RATES, computing=2.0, calling=2.0))
    )
    assert 1.5 * plain < slow < 2 * plain


def test_it_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rates, "_measured", {})  # as in a new process
    monkeypatch.setattr(pace, "measured_rates", lambda *_: RATES)
    monkeypatch.setattr(pace, "STEADY", 1e9)  # also where other work is going on
    machine = detect()
    first = planning.measured_pace(machine, Progress())
    kept = json.loads((hardware.cache_folder() / pace.FILE).read_text())
    assert list(kept.values()) == [{"computing": first.computing, "calling": first.calling}]
    monkeypatch.setattr(pace, "_seconds", lambda *_: pytest.fail("measured again"))
    assert planning.measured_pace(machine, Progress()) == first
    assert first.matmul_flops == RATES.matmul_flops
    assert choose_precision("auto", machine) in next(iter(kept))


@pytest.mark.parametrize("steady", [(True, False), (False, True)])
def test_what_a_busy_machine_took_is_not_kept(
    steady: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rates, "_measured", {})  # as in a new process
    monkeypatch.setattr(pace, "measured_rates", lambda *_: RATES)
    each = iter(steady)
    monkeypatch.setattr(pace, "_seconds", lambda *_: (0.1, next(each)))
    planning.measured_pace(detect(), Progress())
    assert not (hardware.cache_folder() / pace.FILE).exists()


@pytest.mark.parametrize(("slower", "steady"), [(1.2, True), (1.3, False)])
def test_steps_that_take_unlike_times_are_those_of_a_busy_machine(
    slower: float, steady: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([9.0, 9.0, 1.0, slower, 1.0, 2.0, slower, 2.0, 1.0])  # of which the first two warm up
    monkeypatch.setattr(pace, "seconds_of", lambda _: next(times))
    assert pace._seconds(*pace.SMALL, "fp32") == (slower, steady)


def test_a_machine_with_a_gpu_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "measured_rates", lambda *_: RATES)
    monkeypatch.setattr(pace, "_seconds", lambda *_: pytest.fail("timed"))
    assert planning.measured_pace(replace(CPU, device="cuda"), Progress()) == RATES
