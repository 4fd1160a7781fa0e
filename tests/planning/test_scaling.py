"""Laws of loss: published constants, the best size, and a fit to one's own runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.errors import RunError
from shuyuan.planning.scaling import CHINCHILLA, CONSTANTS, Law, Point, fitted
from tests.runs import shuyuan, write_recipe

SIZES, LENGTHS = (1e6, 4e6, 2e7, 1e8), (1e8, 5e8, 3e9, 2e10)


def points(law: Law, noise: float = 0.0, seed: int = 0) -> list[Point]:
    choose = np.random.default_rng(seed)
    return [
        Point(size, length, law.loss(size, length) * math.exp(noise * choose.normal()))
        for size in SIZES
        for length in LENGTHS
    ]


def test_what_was_published() -> None:
    """Chinchilla: 5.76e23 operations are best spent on about 70 billion parameters and 1.4 trillion tokens; loss 1.94 to 2.0."""
    parameters, tokens = CHINCHILLA.best(5.76e23)
    assert parameters == pytest.approx(70e9, rel=0.1) and tokens == pytest.approx(1.4e12, rel=0.1)
    assert 1.9 < CHINCHILLA.loss(parameters, tokens) < 2.0


@given(st.floats(15, 26), st.floats(0.5, 2.0))
def test_no_other_size_of_the_same_compute_is_better(log_flops: float, factor: float) -> None:
    parameters, tokens = CHINCHILLA.best(10**log_flops)
    assert 6 * parameters * tokens == pytest.approx(10**log_flops)
    best = CHINCHILLA.loss(parameters, tokens)
    assert CHINCHILLA.loss(parameters * factor, tokens / factor) >= best - 1e-12


@pytest.mark.parametrize("law", [CHINCHILLA, Law(E=0.7, A=40.0, B=90.0, alpha=0.25, beta=0.3)])
def test_a_law_is_found_again(law: Law) -> None:
    found = fitted(points(law)).law
    for name in CONSTANTS:
        assert getattr(found, name) == pytest.approx(getattr(law, name), rel=0.05), name


def test_intervals_hold_the_truth_and_the_error_is_the_noise() -> None:
    found = fitted(points(CHINCHILLA, noise=0.003, seed=4))
    assert 0.0005 < found.error < 0.01
    held = [low <= getattr(CHINCHILLA, name) <= high for name, (low, high) in found.intervals.items()]
    assert sum(held) >= 3
    assert fitted(points(CHINCHILLA, noise=0.003, seed=4)) == found


@pytest.mark.parametrize(
    "some",
    [
        points(CHINCHILLA)[:5],
        [Point(1e6, 1e6 * k, 3.0) for k in range(1, 9)],
        [Point(k, 1e9, 3.0) for k in range(1, 9)],
    ],
)
def test_too_few_runs_fix_nothing(some: list[Point]) -> None:
    with pytest.raises(RunError, match="too-few-runs"):
        fitted(some)


def test_the_command_refuses_what_gives_no_law(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, steps=2)
    assert shuyuan("run", recipe, "--out", tmp_path / "a").status == 0
    few = shuyuan("plan", "--fit", str(tmp_path / "a"))
    assert few.status == 1 and "too-few-runs" in few.stderr
    recipe.write_text(recipe.read_text().replace("validation = 0.2", "validation = 0.3"))
    assert shuyuan("run", recipe, "--out", tmp_path / "b").status == 0
    other = shuyuan("plan", "--fit", f"{tmp_path}/[ab]")
    assert other.status == 1 and "plan.other-records" in other.stderr
    assert shuyuan("plan", "--fit", str(tmp_path / "nothing")).status == 1


@pytest.mark.slow
def test_a_law_of_ones_own_runs(tmp_path: Path) -> None:
    for width in (16, 32, 64):
        for steps in (8, 24, 60):
            recipe = write_recipe(tmp_path, steps=steps)
            recipe.write_text(recipe.read_text().replace("width = 32", f"width = {width}"))
            assert shuyuan("run", recipe, "--out", tmp_path / f"runs/{width}-{steps}").status == 0
    found = shuyuan("plan", "--fit", f"{tmp_path}/runs/*", "--json").json
    assert found["runs"] == 9 and found["error"] < 0.1
    assert [best["loss"] for best in found["best"]] == sorted(
        (best["loss"] for best in found["best"]), reverse=True
    )
