"""Whole training runs: the model at the end is the same however often the run was killed, and on every repeat."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from shuyuan import data
from shuyuan.errors import Interrupted, RunError, TrainError
from shuyuan.hardware import detect
from shuyuan.models import hub
from shuyuan.progress import Progress
from shuyuan.recipe import Recipe, from_table
from shuyuan.runs import Run
from shuyuan.train import TrainResult, resolve, train, training
from shuyuan.train.parts import config_of
from shuyuan.vault import OpenStore, Store, open_store

from ..runs import shuyuan, text_of
from .parts import StopAt

CHILD = Path(__file__).with_name("child.py")


@pytest.fixture(autouse=True)
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Trains on one core, on which two test processes do not wait for each other's threads; slow tests use all."""
    count = detect().cores if "slow" in request.keywords else 1
    machine = replace(detect(), cores=count)
    monkeypatch.setattr(training, "detect", lambda: machine)
    return count


TRAIN = {"budget": "24 steps", "batch_size": 4, "precision": "fp32", "evaluations": 2}


def text_recipe(folder: Path) -> dict[str, Any]:
    """A text with some structure."""
    source = folder / "notes.txt"
    source.write_text(text_of(300), encoding="utf-8")
    return {
        "data": {"source": str(source), "record": "line", "validation": 0.2, "duplicates": "exact"},
        "model": {"layers": 2, "width": 32, "heads": 2, "hidden": 64, "context": 32},
    }


def images_recipe(folder: Path) -> dict[str, Any]:
    """Stripes in three directions under noise, in colour, augmented."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    rows, columns = np.indices((12, 12)) // 3 % 2
    stripes = np.stack([rows, columns, rows ^ columns])[labels, None]
    images = (160 * stripes + random.integers(0, 90, (120, 3, 12, 12))).astype(np.uint8)
    np.savez(folder / "stripes.npz", images=images.transpose(0, 2, 3, 1), labels=labels)
    return {
        "task": "classification",
        "data": {"source": str(folder / "stripes.npz"), "validation": 0.2, "labels": ["0", "1", "2"]},
        "model": {"family": "cnn"},
        "train": {"augment": ["shift", "flip"]},
    }


def recipe_for(folder: Path, kind: str = "text", **changes: Any) -> Recipe:
    """A run of 24 steps; two seconds at most."""
    table = {"text": text_recipe, "images": images_recipe}[kind](folder)
    table |= {"name": "tiny", "train": TRAIN | table.get("train", {})}
    for key, value in changes.items():  # a whole table, or one key of it
        section, _, name = key.partition("__")
        table[section] = table.get(section, {}) | {name: value} if name else value
    return from_table(table)


def prepared(path: Path, **changes: Any) -> tuple[Recipe, Store]:
    """A run folder with its data prepared and its recipe resolved."""
    path.mkdir(parents=True, exist_ok=True)
    recipe = recipe_for(path.parent, **changes)
    run = Run(path)
    store = open_store(run, recipe.vault.key if recipe.vault else None, create=True)
    manifest = data.prepare(recipe, store, Progress())
    resolved = resolve(recipe, manifest, detect(), Progress())
    store.write_open("recipe.toml", resolved.as_toml().encode())
    return resolved, store


def trained(path: Path, **changes: Any) -> TrainResult:
    recipe, store = prepared(path, **changes)
    return train(recipe, store, Progress(), threading.Event())


def weights(path: Path) -> bytes:
    return (path / "model/model.safetensors").read_bytes()


def last_checkpoint(path: Path) -> dict[str, bytes]:
    """Every array of the newest checkpoint: weights, optimizer, random state."""
    folder = max((path / "checkpoints").iterdir())
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        arrays = safetensors.numpy.load(file.read_bytes())
        found |= {f"{file.name} {name}": array.tobytes() for name, array in arrays.items()}
    return found


def lines_of(path: Path) -> list[dict[str, Any]]:
    return list(OpenStore(path, writable=False).journal("metrics.jsonl").entries())


# ---- what comes out ------------------------------------------------------------------------------------------------


def test_training_learns_and_leaves_a_model_a_result_and_a_log(tmp_path: Path) -> None:
    recipe, store = prepared(tmp_path / "run")
    result = train(recipe, store, Progress(), threading.Event())
    first = next(line for line in lines_of(tmp_path / "run") if line["event"] == "train.step")
    assert result.steps == 24
    assert result.tokens == 24 * 4 * 32
    assert result.loss["train"] < first["loss"] - 0.5
    assert result.loss["validation"] < first["loss"] - 0.5
    assert result.seconds > 0
    assert result.peak_bytes > 10 << 20
    model = hub.load(store)
    assert sum(weight.numel() for weight in model.parameters()) == result.parameters
    end = lines_of(tmp_path / "run")[-1]
    assert end["event"] == "train.end"
    assert end["validation_loss"] == result.loss["validation"]
    assert "without differential privacy" in store.read("model/README.md").decode()
    assert not store.exists("tensorboard")  # which nobody asked for


PRIVATE = {"noise_multiplier": 1.0, "unit": "record", "insecure_seed": 7}


@pytest.mark.parametrize("private", [False, True])
def test_events_are_written_where_the_recipe_asks_for_them(tmp_path: Path, private: bool) -> None:
    asked = {"report": {"tensorboard": True}} | (
        {"privacy": PRIVATE, "data__duplicates": "keep"} if private else {}
    )
    trained(tmp_path / "run", train__budget="3 steps", **asked)
    events = b"".join(file.read_bytes() for file in (tmp_path / "run/tensorboard").iterdir())
    assert b"training/learning_rate" in events
    assert (b"loss/training" in events, b"loss/validation" in events, b"machine/" in events) == (
        not private,
    ) * 3
    assert (b"privacy/epsilon" in events) == private
    assert shuyuan("verify", tmp_path / "run").status == 0


def test_images_are_learned_and_leave_a_model_that_reads_them(tmp_path: Path) -> None:
    recipe, store = prepared(tmp_path / "run", kind="images", train__batch_size=16)
    result = train(recipe, store, Progress(), threading.Event())
    first = next(line for line in lines_of(tmp_path / "run") if line["event"] == "train.step")
    assert first["loss"] == pytest.approx(np.log(3), abs=0.4)
    assert result.tokens == 24 * 16
    assert result.loss["validation"] < 0.1
    model = hub.load(store)
    assert model.config.labels == ("0", "1", "2")
    assert sum(weight.numel() for weight in model.parameters()) == result.parameters
    assert not store.exists("model/tokenizer.json")
    start = next(line for line in lines_of(tmp_path / "run") if line["event"] == "train.start")
    assert start["tokens_per_step"] == 16
    assert "A network for images" in store.read("model/README.md").decode()


def test_augmentation_is_another_batch_at_each_step_and_the_same_at_each_repeat(tmp_path: Path) -> None:
    recipe, store = prepared(tmp_path / "run", kind="images")
    manifest = data.load_manifest(store)
    assert manifest is not None
    count = manifest.splits["train"].records
    recipe = recipe.replace(**{"train.batch_size": count, "train.micro_batch": count})
    plain = recipe.replace(**{"train.augment": []})
    batches = {
        (name, step): training._parts(asked, store, manifest, detect(), hub.scratch(config_of(asked, manifest)), None)[1](step).inputs_BT
        for name, asked in (("moved", recipe), ("again", recipe), ("plain", plain))
        for step in (1, 2)
    }  # fmt: skip
    assert np.array_equal(batches["moved", 1], batches["again", 1])
    assert not np.array_equal(batches["moved", 1], batches["plain", 1])

    # One epoch is one step here: without augmentation the second one has the same images in another order.
    def sums(batch: Any) -> list[int]:
        return sorted(batch.reshape(count, -1).sum(1, dtype=int).tolist())

    assert sums(batches["plain", 1]) == sums(batches["plain", 2])
    assert sums(batches["moved", 1]) != sums(batches["moved", 2])


def test_a_finished_run_answers_at_once(tmp_path: Path) -> None:
    recipe, store = prepared(tmp_path / "run")
    result = train(recipe, store, Progress(), threading.Event())
    log, written = lines_of(tmp_path / "run"), (tmp_path / "run/model/model.safetensors").stat().st_mtime_ns
    assert train(recipe, store, Progress(), threading.Event()) == result
    assert lines_of(tmp_path / "run") == log
    assert (tmp_path / "run/model/model.safetensors").stat().st_mtime_ns == written


def test_a_model_that_was_lost_at_the_very_end_is_written_again(tmp_path: Path) -> None:
    recipe, store = prepared(tmp_path / "run")
    result = train(recipe, store, Progress(), threading.Event())
    before = weights(tmp_path / "run")
    store.remove("model")
    again = train(recipe, store, Progress(), threading.Event())
    assert weights(tmp_path / "run") == before
    assert (again.steps, again.loss) == (result.steps, result.loss)


def first_loss(path: Path) -> float:
    """Loss of step 1, before anything is learned."""
    return float(next(line["loss"] for line in lines_of(path) if line["event"] == "train.step"))


def test_training_starts_from_given_weights_and_the_seed_chooses_the_order_of_batches(tmp_path: Path) -> None:
    learned = trained(tmp_path / "base").loss["train"]
    recipe, store = prepared(tmp_path / "run", model__from=str(tmp_path / "base/model"), train__steps=1)
    train(recipe, store, Progress(), threading.Event())
    assert first_loss(tmp_path / "run") == pytest.approx(learned, abs=0.5)
    assert first_loss(tmp_path / "run") < first_loss(tmp_path / "base") - 0.5
    recipe, store = prepared(tmp_path / "other", model__from=str(tmp_path / "base/model"), train__steps=1)
    train(recipe.replace(seed=2), store, Progress(), threading.Event())
    assert first_loss(tmp_path / "other") != first_loss(tmp_path / "run")


def test_weights_with_a_smaller_vocabulary_are_refused(tmp_path: Path) -> None:
    trained(tmp_path / "base")
    config = tmp_path / "base/model/config.json"
    recipe, store = prepared(
        tmp_path / "run", model__from=str(config.parent), tokenizer__kind="bpe", tokenizer__vocab_size=300
    )
    with pytest.raises(TrainError) as caught:
        train(recipe, store, Progress(), threading.Event())
    assert caught.value.code == "train.other-vocabulary"


def test_unprepared_data_is_a_clear_error(tmp_path: Path) -> None:
    recipe, _ = prepared(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="not prepared"):
        train(recipe, open_store(Run(tmp_path / "empty"), None), Progress(), threading.Event())


# ---- the same bits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "images"])
def test_two_runs_are_the_same_and_another_seed_is_not(tmp_path: Path, kind: str) -> None:
    assert trained(tmp_path / "a", kind=kind).loss == trained(tmp_path / "b", kind=kind).loss
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    recipe, store = prepared(tmp_path / "d", kind=kind)
    train(recipe.replace(seed=2), store, Progress(), threading.Event())
    assert weights(tmp_path / "d") != weights(tmp_path / "a")


def test_on_two_threads_two_runs_are_the_same_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With batches that are large enough for torch to share them out among threads."""
    machine = replace(detect(), cores=2)
    monkeypatch.setattr(training, "detect", lambda: machine)
    large = {"train__batch_size": 64, "train__micro_batch": 64, "train__budget": "4 steps"}
    for name in ("a", "b"):
        trained(tmp_path / name, **large)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    described = (max((tmp_path / "a/checkpoints").iterdir()) / "state.json").read_text()
    assert json.loads(described)["circumstances"]["threads"] == 2


@pytest.mark.parametrize("every", ["1 steps", "7 steps", "1 s"])
def test_when_checkpoints_fall_never_changes_the_weights(tmp_path: Path, every: str) -> None:
    trained(tmp_path / "a")
    trained(tmp_path / "b", train__checkpoint_every=every)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.parametrize(("kind", "schedule"), [("text", "wsd"), ("text", "plateau"), ("images", "wsd")])
def test_interrupted_and_resumed_is_the_same_model(tmp_path: Path, kind: str, schedule: str) -> None:
    trained(tmp_path / "a", kind=kind, train__schedule=schedule)
    recipe, store = prepared(tmp_path / "b", kind=kind, train__schedule=schedule)
    for step in (5, 13):
        stop = threading.Event()
        with pytest.raises(Interrupted):
            train(recipe, store, StopAt(stop, step), stop)
    train(recipe, store, Progress(), threading.Event())
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert last_checkpoint(tmp_path / "a") == last_checkpoint(tmp_path / "b")


def killed(path: Path, cores: int, after: int, delay: float) -> bool:
    """Trains in another process and kills it `delay` seconds after a step; False if it was done before."""
    command = [sys.executable, CHILD, path, str(cores)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if float(line) >= after:
                time.sleep(delay)
                process.kill()
                break
        process.stdout.read()
    return process.returncode == -9


def kill_at_random(path: Path, cores: int, kills: int, steps: int, seed: int) -> None:
    """Kills the training so often, then lets it end; a kill in the last steps may come too late."""
    choose = random.Random(seed)
    happened = [
        killed(path, cores, after, choose.uniform(0, 0.02))
        for after in sorted(choose.sample(range(1, steps), kills))
    ]
    assert any(happened), f"no kill came in time (seed {seed})"
    assert not killed(path, cores, steps + 1, 0)


@pytest.mark.parametrize(
    ("kind", "precision", "kills"), [("text", "fp32", 2), ("text", "bf16", 1), ("images", "bf16", 2)]
)
def test_killed_at_random_moments_ends_bit_for_bit_where_the_uninterrupted_run_ends(
    tmp_path: Path, cores: int, kind: str, precision: str, kills: int
) -> None:
    changes = {"kind": kind, "train__precision": precision, "train__checkpoint_every": "3 steps"}
    trained(tmp_path / "a", **changes)  # in this process
    prepared(tmp_path / "b", **changes)
    seed = time.time_ns()
    kill_at_random(tmp_path / "b", cores, kills, 24, seed)
    assert weights(tmp_path / "a") == weights(tmp_path / "b"), f"seed {seed}"
    assert last_checkpoint(tmp_path / "a") == last_checkpoint(tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_killed_many_times(tmp_path: Path, cores: int, precision: str, optimizer: str) -> None:
    changes = {
        "train__precision": precision, "train__optimizer": optimizer, "train__checkpoint_every": "1 steps",
        "train__budget": "60 steps", "train__schedule": "plateau", "train__micro_batch": 2,
    }  # fmt: skip
    trained(tmp_path / "a", **changes)
    prepared(tmp_path / "b", **changes)
    kill_at_random(tmp_path / "b", cores, 6, 60, seed=time.time_ns())
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert last_checkpoint(tmp_path / "a") == last_checkpoint(tmp_path / "b")


def test_a_sealed_run_killed_and_resumed_has_the_weights_of_an_open_one(
    tmp_path: Path, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHUYUAN_TRAIN_TEST", "a passphrase for a test")
    trained(tmp_path / "a")
    _, store = prepared(
        tmp_path / "b", vault__key="env:SHUYUAN_TRAIN_TEST", train__checkpoint_every="3 steps"
    )
    store.close()
    assert killed(tmp_path / "b", cores, 11, 0.005)
    recipe = Run(tmp_path / "b").recipe()
    with open_store(Run(tmp_path / "b"), "env:SHUYUAN_TRAIN_TEST") as store:
        train(recipe, store, Progress(), threading.Event())
        assert store.read("model/model.safetensors") == weights(tmp_path / "a")
    assert b"embed_tokens" not in b"".join(
        file.read_bytes() for file in (tmp_path / "b").rglob("*") if file.is_file()
    )


def test_a_checkpoint_of_another_recipe_or_other_data_is_refused(tmp_path: Path) -> None:
    recipe, store = prepared(tmp_path / "run")
    stop = threading.Event()
    with pytest.raises(Interrupted):
        train(recipe, store, StopAt(stop, 5), stop)
    with pytest.raises(TrainError, match=r"train\.learning_rate"):
        train(recipe.replace(**{"train.learning_rate": 0.5}), store, Progress(), threading.Event())
    manifest = store.read_json("data/manifest.json")
    manifest["splits"]["train"]["shards"][0]["sha256"] = "0" * 64
    store.write_json("data/manifest.json", manifest)
    with pytest.raises(TrainError, match="data: "):
        train(recipe, store, Progress(), threading.Event())


def test_the_random_state_of_the_caller_is_not_touched(tmp_path: Path) -> None:
    import torch

    recipe, store = prepared(tmp_path / "run")
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    train(recipe, store, Progress(), threading.Event())
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
