"""The table of ε against noise, batch and steps; the rules on sizes; and how many units a source has."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from shuyuan import recipe as recipes
from shuyuan.planning import plan, units
from shuyuan.planning.noise import INTERVAL, choices, table
from shuyuan.planning.units import with_units
from shuyuan.privacy import accountant, mechanism

from .parts import CPU, RATES, make_manifest, make_recipe

HERE = mechanism(units=2000, expected_batch=40, steps=50, noise_multiplier=1.0)
SPENT = HERE.epsilon(50)


def test_every_row_costs_the_epsilon_that_it_says() -> None:
    rows = table(HERE, SPENT)
    assert len(rows) == 7 and (rows[0].noise_multiplier, rows[0].batch_size, rows[0].steps) == (1.0, 40, 50)
    for row in rows:
        found = accountant.epsilon(
            row.noise_multiplier, row.batch_size / 2000, row.steps, HERE.delta, INTERVAL
        )
        assert 0.97 * row.epsilon < found <= row.epsilon * 1.001
        assert row.noise_to_batch == pytest.approx(row.noise_multiplier / row.batch_size)


def test_what_lowers_the_noise_beside_the_batch() -> None:
    ratio = {
        (round(row.epsilon / SPENT, 2), row.batch_size, row.steps): row.noise_to_batch
        for row in table(HERE, SPENT)
    }
    here = ratio[1, 40, 50]
    assert ratio[4, 40, 50] < here < ratio[0.25, 40, 50]
    assert ratio[1, 160, 50] < here < ratio[1, 40, 200]
    assert ratio[1, 160, 12] < here < ratio[1, 10, 200]  # the same work


def test_a_batch_of_all_units_says_that_no_larger_one_is_there() -> None:
    whole = mechanism(units=50, expected_batch=50, steps=5, noise_multiplier=2.0)
    found = choices(whole, 1000, 10_000, writes=False)
    assert found["size"] is None and "all units" in found["rules"][0]


def test_sizes_follow_the_rules_that_were_published() -> None:
    size = choices(HERE, 10**6, 10**9, writes=True)["size"]
    assert size["tokens_a_parameter"] == 1000
    assert size["best_at_most"] == pytest.approx(size["best_without_privacy"] / 10, rel=1e-3)
    assert 1 <= SPENT <= 10
    few, many = size["best_between"]
    assert few**2 * 1e5 == pytest.approx(1e15, rel=0.01) and many**2 * 1e3 == pytest.approx(1e15, rel=0.01)


def test_a_plan_tells_the_table_and_one_without_privacy_none() -> None:
    private = {"privacy": {"noise_multiplier": 1.0, "unit": "record"}, "train": {"budget": "20 steps"}}
    found = plan(make_recipe(**private), CPU, RATES, make_manifest()).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    first = found["noise"]["table"][0]
    assert first["noise_multiplier"] == 1.0 and first["steps"] == 20
    assert found["noise"]["noise_to_batch"] == pytest.approx(1.0 / found["privacy"]["expected_batch"])
    assert plan(make_recipe(), CPU, RATES, make_manifest()).noise is None


def test_a_plans_noise_is_that_of_training_within_a_few_percent() -> None:
    exact = accountant.noise_multiplier_for(2.0, 0.02, 50, 1e-5)
    rough = accountant.noise_multiplier_for(2.0, 0.02, 50, 1e-5, INTERVAL)
    assert exact <= rough * 1.001 and rough < 1.05 * exact


def test_noise_that_is_out_of_reach_is_none() -> None:
    assert accountant.noise_multiplier_near(1.0, 1e-9, 1.0, 10**6, 1e-9, 1e-3) is None


# ---- units -----------------------------------------------------------------------------------------------------------


def ward(folder: Path, records: int = 60, owners: int = 7) -> recipes.Recipe:
    lines = [
        json.dumps({"text": f"note {number} of the day", "patient": number % owners})
        for number in range(records)
    ]
    (folder / "notes.jsonl").write_text("\n".join(lines))
    data: dict[str, Any] = {"source": str(folder / "notes.jsonl"), "owner": "patient", "validation": 0.1}
    return recipes.from_table({"data": data, "privacy": {"noise_multiplier": 1.0}})


def test_owners_are_counted_once_and_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = ward(tmp_path, owners=20)
    manifest, notes = with_units(recipe, make_manifest())
    assert manifest.splits["train"].owners == 18 and "20 owners" in notes[0]
    monkeypatch.setattr(units, "SECONDS", -math.inf)
    assert (
        with_units(recipe, make_manifest())[0].splits["train"].owners == 18
    )  # from the cache: no time to count
    ward(tmp_path, records=90, owners=30)
    assert "too large to count" in with_units(recipe, make_manifest())[1][0]
    monkeypatch.undo()
    assert with_units(recipe, make_manifest())[0].splits["train"].owners == 27


def test_planted_canaries_are_units_too(tmp_path: Path) -> None:
    """Half of them, by a fair coin each: without them the noise of a small source was planned four times too high."""
    recipe = ward(tmp_path, owners=20).replace(**{"audit.canaries": 1000})
    manifest, notes = with_units(recipe, make_manifest())
    assert manifest.splits["train"].owners == 518 and "500 planted canaries" in notes[0]


def test_a_broken_cache_is_counted_anew(tmp_path: Path) -> None:
    recipe = ward(tmp_path)
    with_units(recipe, make_manifest())
    file = units.cache_folder() / "units.json"
    for broken in ("", "[1]", '{"x": "many"}'):
        file.write_text(broken)
        assert with_units(recipe, make_manifest())[0].splits["train"].owners == 6
    assert len(json.loads(file.read_text())) == 1
