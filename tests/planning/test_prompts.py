"""Plans of tasks with prompts: rows are guessed as preparation makes them, and only as wide as they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shuyuan import planning
from shuyuan.data import prepare
from shuyuan.hardware import Hardware, detect
from shuyuan.models import TransformerConfig
from shuyuan.planning.estimate import estimated_manifest
from shuyuan.planning.memory import activation_bytes, peak_memory
from shuyuan.progress import Progress
from shuyuan.recipe import Budget, Recipe, from_table
from shuyuan.train.micro_batches import micro_batches
from shuyuan.train.parts import config_of, drawn_parts, row_width, typical_parts
from shuyuan.train.resolve import choose_batch, fill_in, made_up, steps_of, validation_windows
from shuyuan.vault import OpenStore


def recipe_of(folder: Path, **tables: Any) -> Recipe:
    rows = [{"source": f"number {n} and more", "target": f"\u6570\u5b57{n}"} for n in range(200)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"source": str(folder / "pairs.jsonl"), "duplicates": "keep"}
    return from_table(
        {"task": "translation", "data": data, "model": {"context": 256, "size": "tiny"}, **tables}
    )


@pytest.fixture
def hardware() -> Hardware:
    return detect()


def test_the_guess_is_what_preparation_makes(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    guess = estimated_manifest(recipe)[0].splits["train"]
    made = prepare(recipe, OpenStore(tmp_path / "run"), Progress()).splits["train"]
    assert guess.rows == pytest.approx(made.rows, rel=0.1)
    assert guess.learned == pytest.approx(made.learned, rel=0.3)
    assert sum(guess.widths) == pytest.approx(sum(made.widths), rel=0.1)
    assert abs(len(guess.widths) - len(made.widths)) <= 1
    assert guess.tokens == pytest.approx(made.tokens, rel=0.3)


def test_what_is_longer_than_the_context_is_not_counted(tmp_path: Path) -> None:
    whole = recipe_of(tmp_path, tokenizer={"kind": "byte"})
    long, cut = (
        estimated_manifest(recipe)[0].splits["train"]
        for recipe in (whole, whole.replace(**{"model.context": 8}))
    )
    assert 7 * cut.rows <= cut.tokens <= 9 * cut.rows < 12 * long.rows < long.tokens


def test_the_rest_of_a_long_source_may_hold_longer_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shuyuan.planning.estimate.SAMPLE_PROMPTS", 500)
    recipe = recipe_of(tmp_path)
    guess = estimated_manifest(recipe)[0]
    assert guess.splits["train"].widths == []
    assert row_width(recipe, guess) == recipe.model.context


def test_batch_steps_and_width_follow_from_rows(tmp_path: Path, hardware: Hardware) -> None:
    recipe = recipe_of(tmp_path)
    manifest = prepare(recipe, OpenStore(tmp_path / "run"), Progress())
    train = manifest.splits["train"]
    assert row_width(recipe, manifest) == 16 * len(train.widths) < 64
    batch = choose_batch(recipe, manifest, hardware)
    assert batch == min(train.rows, round(2048 * train.rows / train.tokens))
    filled = fill_in(recipe, manifest, hardware)
    assert steps_of(Budget("epochs", 3), filled, manifest) == -(-3 * train.rows // batch)
    assert validation_windows(filled, manifest) == manifest.splits["validation"].rows
    assert made_up(filled, manifest, 2, np.random.default_rng(0)).inputs_BT.shape == (
        2,
        row_width(recipe, manifest),
    )


def test_how_long_private_rows_are_shapes_nothing(tmp_path: Path, hardware: Hardware) -> None:
    recipe = recipe_of(tmp_path, privacy={"epsilon": 8.0, "unit": "record"})
    manifest = prepare(recipe, OpenStore(tmp_path / "run"), Progress())
    assert row_width(recipe, manifest) == 256
    assert choose_batch(recipe, manifest, hardware) == min(
        4 * round(2048 / 256), manifest.splits["train"].records
    )


def test_short_rows_take_less_memory_and_time_than_the_context(tmp_path: Path, hardware: Hardware) -> None:
    recipe = recipe_of(tmp_path, train={"budget": "100 steps", "batch_size": 64})
    long = recipe.replace(**{"privacy.noise_multiplier": 1.0, "privacy.unit": "record"})
    short, wide = (planning.plan(each, hardware, None, None) for each in (recipe, long))
    assert short.parameters == wide.parameters
    assert short.seconds.expected < wide.seconds.expected / 2


def test_rows_that_differ_in_length_are_planned_and_calibrated_as_they_are_computed(
    tmp_path: Path, hardware: Hardware
) -> None:
    """Three rows of four are short: the parts of a step follow, and what is made up for the clock has the same shape."""
    recipe = recipe_of(tmp_path, train={"batch_size": 40, "budget": "100 steps"})
    manifest = prepare(recipe, OpenStore(tmp_path / "run"), Progress())
    train = replace(manifest.splits["train"], widths=[0, 300, 0, 0, 0, 0, 0, 100], rows=400, learned=9600)
    manifest = replace(manifest, splits=manifest.splits | {"train": train})
    filled = fill_in(recipe, manifest, hardware)
    parts = typical_parts(filled, manifest)
    assert [(part.rows, part.width) for part in parts] == [(10, 128), (30, 32)]
    assert sum(part.rows * part.targets for part in parts) == pytest.approx(40 * 9600 / 400, rel=0.01)
    batch = made_up(filled, manifest, 40, np.random.default_rng(0))
    made = [part.inputs_BT.shape for part in micro_batches(batch, 40)]
    assert made == [(10, 128), (30, 32)]
    assert (batch.targets_BT >= 0).sum() == pytest.approx(40 * 9600 / 400, rel=0.05)
    wide = replace(train, widths=[0] * 7 + [400])
    wider = replace(manifest, splits=manifest.splits | {"train": wide})
    short, long = (planning.plan(filled, hardware, None, each) for each in (manifest, wider))
    assert short.seconds.expected < long.seconds.expected
    assert short.peak_bytes.expected < long.peak_bytes.expected


def test_memory_is_planned_for_the_step_with_most_wide_rows(tmp_path: Path, hardware: Hardware) -> None:
    """A quarter of the rows is wide: of 40, 10 on average, and in some of many steps half as many again. The plan must hold those."""
    recipe = recipe_of(tmp_path, train={"batch_size": 40, "budget": "100 steps", "precision": "fp32"})
    manifest = prepare(recipe, OpenStore(tmp_path / "run"), Progress())
    train = replace(manifest.splits["train"], widths=[0, 300, 0, 0, 0, 0, 0, 100], rows=400, learned=9600)
    manifest = replace(manifest, splits=manifest.splits | {"train": train})
    filled = fill_in(recipe, manifest, hardware).replace(**{"train.steps": 100})
    rows = max(part.rows for part in drawn_parts(filled, manifest) if part.width == 128)
    assert 13 <= rows <= 25
    whole = replace(train, widths=[0] * 7 + [400])
    alike = replace(manifest, splits=manifest.splits | {"train": whole})
    assert drawn_parts(filled, alike) == set(typical_parts(filled, alike))
    config = config_of(filled, manifest)
    assert isinstance(config, TransformerConfig)
    kept = activation_bytes(replace(config, context=128), "fp32", rows, "cpu")
    found = peak_memory(filled, config, hardware, manifest).items
    assert found["activations"] == kept
