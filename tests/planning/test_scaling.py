"""Laws of loss: published constants, the best size, and a fit to one's own runs."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan import report
from shuyuan.errors import RunError
from shuyuan.pipeline import laws
from shuyuan.planning.scaling import CHINCHILLA, CONSTANTS, Law, Point, fitted
from shuyuan.report import law_page
from shuyuan.report.wording import rounded
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


def test_the_fit_tells_its_rule_its_points_and_intervals() -> None:
    found = fitted(points(CHINCHILLA, noise=0.003, seed=4)).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert "embeddings too" in found["counting_rule"] and len(found["points"]) == 16
    assert all(abs(point["predicted"] / point["loss"] - 1) < 0.02 for point in found["points"])
    for best in found["best"]:
        low, high = best["loss_interval"]
        assert low <= best["loss"] <= high
        assert best["parameters_interval"][0] <= best["parameters"] <= best["parameters_interval"][1]


@given(st.floats(0.01, 2.5), st.floats(0.01, 2.5), st.floats(-5, 40), st.floats(-5, 40), st.floats(1, 30))
def test_a_law_that_makes_no_sense_still_has_a_best_size(
    alpha: float, beta: float, log_a: float, log_b: float, log_flops: float
) -> None:
    law = Law(1.0, math.exp(log_a), math.exp(log_b), alpha, beta)
    parameters, tokens = law.best(10**log_flops)
    assert parameters >= 1 - 1e-9 and tokens >= 1 - 1e-9
    assert 6 * parameters * tokens == pytest.approx(10**log_flops)


def test_the_page_of_a_law_is_one_file_that_asks_for_nothing() -> None:
    found = fitted(points(CHINCHILLA, noise=0.003, seed=4))
    page = law_page(found)
    assert page == law_page(found)
    assert page.count("<svg") == 2 and "default-src 'none'" in page
    assert not re.findall(r"(?:src|href|url\()\s*=?\s*[\"']?(?!#)(?:https?:)?//", page)
    assert "<script" not in page and "style=" not in page
    for told in ("embeddings too", "90 % of resampled fits", "16 finished runs", *CONSTANTS):
        assert told in page
    for size in SIZES:
        assert f">{rounded(size)}<" in page  # the line of each size is named
    assert page.count("<use ") >= 2 * 16  # a dot for each run, in both pictures


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


@pytest.mark.parametrize(("loss", "privacy"), [(None, None), (3.0, {"epsilon": 1.0})])
def test_a_run_without_a_loss_or_with_noise_is_no_point_of_a_law(
    loss: float | None, privacy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"loss": {"validation": loss}, "privacy": privacy, "parameters": 10, "tokens": 20}
    monkeypatch.setattr(report, "summary", lambda *_: told)
    job: Any = SimpleNamespace(run=SimpleNamespace(path="a"), store=None)
    with pytest.raises(RunError, match=r"plan\.not-for-a-law"):
        laws._point(job)


@pytest.mark.slow
def test_a_law_of_ones_own_runs(tmp_path: Path) -> None:
    for width in (16, 32, 64):
        for steps in (8, 24, 60):
            recipe = write_recipe(tmp_path, steps=steps)
            recipe.write_text(recipe.read_text().replace("width = 32", f"width = {width}"))
            assert shuyuan("run", recipe, "--out", tmp_path / f"runs/{width}-{steps}").status == 0
    command = ("plan", "--fit", f"{tmp_path}/runs/*", "--to", tmp_path / "law.html")
    told = shuyuan(*command)
    assert told.status == 0 and str(tmp_path / "law.html") in told.stdout.replace("\n", "")
    assert (tmp_path / "law.html").read_text().startswith("<!doctype html>")
    assert "plan.file-in-use" in shuyuan(*command).stderr
    found = shuyuan("plan", "--fit", f"{tmp_path}/runs/*", "--json").json
    assert found["page"] is None
    assert found["runs"] == 9 and found["error"] < 0.1
    assert [best["loss"] for best in found["best"]] == sorted(
        (best["loss"] for best in found["best"]), reverse=True
    )
