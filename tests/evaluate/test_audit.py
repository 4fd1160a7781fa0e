"""The audit: its bound is the paper's, an overfitted run shows one, a broken guarantee is convicted, a kept one is not."""

from __future__ import annotations

import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shuyuan import evaluate
from shuyuan.data import load_canaries, load_manifest
from shuyuan.data.canaries import make_canaries
from shuyuan.errors import RunError
from shuyuan.privacy.audit import SHARES, audit, epsilon_lower
from shuyuan.privacy.clipping import Clipper
from shuyuan.privacy.noise import Noise
from shuyuan.progress import Progress
from shuyuan.train import mechanism_of, train

from ..train.test_training import prepared

# (canaries, guesses, right, δ, ε at 95 %): independent implementations of the theorem, and all guesses right.
VECTORS = [
    (1000, 100, 95, 1e-5, 2.16518), (1000, 200, 150, 1e-5, 0.81997), (1000, 1000, 600, 1e-5, 0.29723),
    (200, 100, 100, 0.0, 3.49), (1000, 500, 500, 0.0, 5.11), (2000, 1000, 1000, 0.0, 5.81), (10000, 5000, 5000, 0.0, 7.42),
    (200, 100, 100, 1e-5, 3.487), (1000, 500, 500, 1e-5, 5.088), (2000, 1000, 1000, 1e-5, 5.755),
]  # fmt: skip


@pytest.mark.parametrize(("canaries", "guesses", "right", "delta", "wanted"), VECTORS)
def test_the_bound_of_the_theorem(
    canaries: int, guesses: int, right: int, delta: float, wanted: float
) -> None:
    assert epsilon_lower(canaries, guesses, right, delta) == pytest.approx(wanted, abs=0.005)


def test_nothing_is_shown_by_half_right() -> None:
    assert epsilon_lower(1000, 100, 50, 1e-5) == 0
    assert epsilon_lower(1000, 100, 0, 1e-5) == 0


def test_the_bound_falls_with_delta_and_abstained_canaries() -> None:
    assert (
        epsilon_lower(1000, 100, 95, 0.0)
        > epsilon_lower(1000, 100, 95, 1e-5)
        > epsilon_lower(10**5, 100, 95, 1e-5)
    )


def test_impossible_counts_are_refused() -> None:
    for numbers in ((10, 5, 6), (10, 11, 5), (10, 5, -1)):
        with pytest.raises(ValueError, match="canaries"):
            epsilon_lower(*numbers, 1e-5)


def test_coins_that_nothing_depends_on_are_rarely_held_against_anyone() -> None:
    """Under ε = 0 a positive bound may come up in 5 % of audits, whichever number of guesses looked best."""
    random = np.random.default_rng(0)
    shown = [
        audit(random.normal(size=400), random.random(400) < 0.5, 1e-5).epsilon_lower > 0 for _ in range(150)
    ]
    assert np.mean(shown) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


def test_perfect_scores_reach_the_ceiling_that_they_pay_for() -> None:
    included = np.arange(1000) % 2 == 0
    verdict = audit(included.astype(float), included, 1e-5)
    assert (
        verdict.epsilon_lower
        == verdict.ceiling
        == pytest.approx(epsilon_lower(1000, 1000, 1000, 1e-5, 1 - 0.05 / len(SHARES)))
    )


# ---- runs ------------------------------------------------------------------------------------------------------------


def run(path: Path, canaries: int = 200, **changes: Any) -> tuple[Any, Any]:
    settings = {
        "data__duplicates": "keep", "audit__canaries": canaries, "train__optimizer": "adamw", "train__schedule": "constant",
        "train__learning_rate": 0.003, "train__batch_size": 16, "model__context": 40,
    }  # fmt: skip
    recipe, store = prepared(path, **settings | changes)
    train(recipe, store, Progress(), threading.Event())
    return recipe, store


def look(recipe: Any, store: Any, **options: Any) -> dict[str, Any]:
    manifest = load_manifest(store)
    assert manifest is not None
    return evaluate.audit(recipe, store, manifest, Progress(), **options)


def test_canaries_are_planted_by_fair_coins_and_are_units_of_their_own(tmp_path: Path) -> None:
    _, without = prepared(tmp_path / "a", data__duplicates="keep")
    _, store = prepared(tmp_path / "b", data__duplicates="keep", audit__canaries=400)
    canaries, manifest, before = load_canaries(store), load_manifest(store), load_manifest(without)
    assert canaries is not None and manifest is not None and before is not None
    assert abs(canaries.included_M.mean() - 0.5) < 5 * 0.5 / 20
    assert len(np.unique(canaries.tokens_MT, axis=0)) == 400
    added = int(canaries.included_M.sum())
    assert manifest.splits["train"].owners == before.splits["train"].owners + added
    assert manifest.splits["train"].records == before.splits["train"].records + added
    assert manifest.splits["validation"] == before.splits["validation"]


def test_canaries_and_coins_are_new_for_each_run() -> None:
    one, other = (make_canaries(64, 256, 0, 40) for _ in range(2))
    assert (one.tokens_MT != other.tokens_MT).any() and (one.included_M != other.included_M).any()
    assert (one.tokens_MT != 0).all()  # the end token closes a record, and is no part of one


def test_an_overfitted_run_without_privacy_shows_a_clearly_positive_bound(tmp_path: Path) -> None:
    recipe, store = run(tmp_path / "run", train__budget="200 steps", train__learning_rate=0.01)
    found = look(recipe, store)
    assert found["epsilon_lower"] > 0.5
    assert found["epsilon_upper"] is None
    assert found.keys() >= {
        "epsilon_lower",
        "confidence",
        "epsilon_upper",
        "canaries",
        "guesses",
        "correct",
        "ceiling",
    }
    assert store.read_json("audit.json") == found


def test_a_run_that_keeps_its_promise_is_not_convicted(tmp_path: Path) -> None:
    recipe, store = run(
        tmp_path / "run", privacy__epsilon=1.0, privacy__unit="record", train__budget="30 steps"
    )
    manifest = load_manifest(store)
    assert manifest is not None
    recipe = recipe.replace(resolved={"privacy": asdict(mechanism_of(recipe, manifest))})
    for white_box in (False, True):
        found = look(recipe, store, white_box=white_box)
        assert found["epsilon_lower"] <= 1.0
        assert 0.95 < found["epsilon_upper"] <= 1.0 and found["delta"] == 1e-5


def test_a_run_that_states_one_and_neither_clips_nor_hides_is_convicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clipping off and σ = 0.01 under a stated ε = 1: what an audit is for."""
    add = Noise.add
    monkeypatch.setattr(Clipper, "_factors", lambda _, norms_U, most: torch.ones_like(norms_U))
    monkeypatch.setattr(
        Noise,
        "add",
        lambda self, totals, deviation, *, step: add(self, totals, 0.01, step=step),
    )
    recipe, store = run(
        tmp_path / "run",
        canaries=1000,
        privacy__epsilon=1.0,
        privacy__unit="record",
        train__budget="2 steps",
        train__batch_size=600,
        train__optimizer="sgd",
        train__learning_rate=0.1,
        train__weight_decay=0.0,
        model__width=64,
    )
    manifest = load_manifest(store)
    assert manifest is not None
    assert mechanism_of(recipe, manifest).epsilon(2) <= 1.0
    assert look(recipe, store, white_box=True)["epsilon_lower"] > 1.0


def test_without_canaries_there_is_nothing_to_ask(tmp_path: Path) -> None:
    recipe, store = run(tmp_path / "run", canaries=0)
    with pytest.raises(RunError) as caught:
        look(recipe, store)
    assert caught.value.code == "run.no-canaries"
