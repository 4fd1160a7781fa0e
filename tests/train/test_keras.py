"""Training by Keras under the driver: the same bits however often a run is stopped, killed or sent back."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shuyuan.errors import DataError, Interrupted, RecipeError
from shuyuan.models import load_network
from shuyuan.progress import Progress
from shuyuan.recipe import from_table
from shuyuan.runs import Run
from shuyuan.train import train
from shuyuan.train.backend import Batch, Figures, StepByStep
from shuyuan.train.checkpoints import Checkpoints
from shuyuan.train.driver import Driver
from shuyuan.train.keras_backend import KerasBackend, repeatable
from shuyuan.vault import OpenStore, open_store

from ..models.recurrent_models import T, V, keras, model, tf
from .parts import StopAt, events, settings
from .test_training import CHILD, cores, kill_at_random, killed, last_checkpoint, lines_of, prepared

__all__ = ["cores"]  # a fixture

RNN: dict[str, Any] = {
    "model": {"family": "rnn", "layers": 1, "width": 24, "context": 16, "dropout": 0.1},
    "train": {"budget": "12 steps", "batch_size": 8, "precision": "fp32", "evaluations": 2},
}
PRIVATE: dict[str, Any] = {
    "privacy__noise_multiplier": 1.0,
    "privacy__unit": "record",
    "privacy__insecure_seed": 7,
}


def recurrent(path: Path, **changes: Any) -> Any:
    """A prepared run of the family, resolved."""
    return prepared(path, model=RNN["model"], train=RNN["train"], **changes)


def trained(path: Path, **changes: Any) -> Any:
    recipe, store = recurrent(path, **changes)
    return train(recipe, store, Progress(), threading.Event())


def written(path: Path) -> bytes:
    return (path / "model/model.keras").read_bytes()


def sample(step: int) -> Batch:
    tokens = np.random.default_rng(step).integers(0, V, (4, T + 1))
    return Batch(step, tokens[:, :-1].copy(), tokens[:, 1:].copy())


def drive(
    path: Path, backend: Any, *, stop_at: int | None = None, take: Any = sample, **changes: Any
) -> Driver:
    """Runs a driver with a backend of Keras in a run folder."""
    own = settings(**{"optimizer": "adamw", "batch_size": 4, **changes})
    stop = threading.Event()
    progress = Progress() if stop_at is None else StopAt(stop, stop_at)
    store = OpenStore(path)
    checkpoints = Checkpoints(store, {"seed": 1}, {}, own.keep)
    driver = Driver(
        own, backend, take, [sample(0)], checkpoints, store.journal("metrics.jsonl"), progress, stop
    )
    with repeatable(1, 1, "fp32"):
        driver.run()
    return driver


def backend(**changes: Any) -> KerasBackend:
    return KerasBackend(model(lively=False, dropout=0.2), settings(**{"optimizer": "adamw", **changes}))


def arrays(of: KerasBackend) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in of.state().items()}


# ---- what comes out --------------------------------------------------------------------------------------------------


def test_training_learns_and_leaves_a_model_and_a_log(tmp_path: Path) -> None:
    recipe, store = recurrent(tmp_path / "run", train__budget="60 steps", train__learning_rate=0.02)
    result = train(recipe, store, Progress(), threading.Event())
    first = next(line for line in lines_of(tmp_path / "run") if line["event"] == "train.step")
    assert result.steps == 60 and 59 * 8 * 16 < result.tokens <= 60 * 8 * 16  # the last window is not full
    assert result.loss["train"] < first["loss"] - 1.5 and result.loss["validation"] < first["loss"] - 1.5
    ours = load_network(store)
    assert ours.config.parameters == result.parameters == ours.plain.count_params()
    assert all(layer.dtype_policy.name == "float32" for layer in ours.plain.layers)
    assert {"train.start", "train.validation", "train.checkpoint", "train.end"} <= {
        line["event"] for line in lines_of(tmp_path / "run")
    }


def test_a_step_by_fit_is_a_step_by_itself_and_keras_own_arithmetic(tmp_path: Path) -> None:
    """The losses of `fit` under the driver, of single steps, and of Keras' plain layers with Keras' own optimizer."""
    ours = KerasBackend(model(lively=False), settings(optimizer="adamw", grad_clip=0.0, weight_decay=0.0))
    drive(tmp_path, ours, steps=4, grad_clip=0.0, weight_decay=0.0)
    fitted = [line["loss"] for line in events(tmp_path, "train.step")]
    single = KerasBackend(model(lively=False), settings(optimizer="adamw", grad_clip=0.0, weight_decay=0.0))
    with repeatable(1, 1, "fp32"):
        stepped = [single.step(sample(step), 0.01).loss for step in range(1, 5)]
    plain = model(lively=False).plain
    plain.compile(
        keras.optimizers.AdamW(0.01, weight_decay=0.0, beta_2=0.99), "sparse_categorical_crossentropy"
    )
    batches = [(sample(step).inputs_BT, sample(step).targets_BT) for step in range(1, 5)]
    wanted = []
    for inputs, targets in batches:
        plain.reset_metrics()
        wanted.append(float(plain.train_on_batch(inputs, targets)))
    assert fitted == stepped
    np.testing.assert_allclose(fitted, wanted, rtol=1e-4)


def test_targets_that_are_not_learned_count_in_no_mean() -> None:
    ours = backend()
    whole = sample(1)
    targets = whole.targets_BT.copy()
    targets[1:] = -100
    figures = ours.step(Batch(1, whole.inputs_BT, targets), 0.0)
    alone = backend().step(Batch(1, whole.inputs_BT[:1], targets[:1]), 0.0)
    assert figures.tokens == alone.tokens == T
    assert figures.loss == pytest.approx(alone.loss, rel=0.2)  # dropout differs
    assert ours.evaluate([Batch(0, whole.inputs_BT, targets)]) == pytest.approx(
        ours.evaluate([Batch(0, whole.inputs_BT[:1], targets[:1])]), rel=1e-5
    )


def test_the_gradient_is_cut_to_its_norm() -> None:
    batch, moved = sample(1), []
    for most in (0.0, 0.01):
        plain = settings(grad_clip=most, optimizer="sgd", weight_decay=0.0)
        ours = KerasBackend(model(lively=False, dropout=0.0), plain)
        before = ours.state()
        figures = ours.step(batch, 1.0)
        change = sum(
            float(np.square(ours.state()[name] - before[name]).sum()) for name in before if "kernel" in name
        )
        moved.append((figures.gradient_norm, change**0.5))
    assert moved[0][0] == pytest.approx(moved[1][0]) and moved[0][0] > 0.05
    assert moved[1][1] < moved[0][1] * 0.02 / moved[0][0] * 2


def test_weight_decay_is_for_the_matrices_inside(tmp_path: Path) -> None:
    ours = backend(weight_decay=0.5)
    before = {weight.path: weight.numpy() for weight in ours.model.plain.trainable_variables}
    nothing = np.full((4, T), -100)
    ours.step(Batch(1, sample(1).inputs_BT, nothing), 0.1)
    for weight in ours.model.plain.trainable_variables:
        inside = "lstm" in weight.path and "kernel" in weight.name
        np.testing.assert_allclose(weight.numpy(), before[weight.path] * (0.95 if inside else 1.0), rtol=1e-5)


# ---- when a step goes wrong -------------------------------------------------------------------------------------------


def test_a_step_whose_gradient_is_not_finite_changes_nothing() -> None:
    ours = backend()
    ours.step(sample(1), 0.01)
    embedding = ours.model.plain.layers[0].embeddings
    good = embedding.numpy()
    embedding.assign(np.full_like(good, np.nan))
    before = {name: array for name, array in arrays(ours).items() if not name.endswith(("norm", "state"))}
    figures = ours.step(sample(2), 0.01)
    assert figures.skipped == "the gradient is not finite"
    after = {name: array for name, array in arrays(ours).items() if not name.endswith(("norm", "state"))}
    assert after == before
    embedding.assign(good)
    assert ours.step(sample(3), 0.01).skipped is None


class Failing(KerasBackend):
    """Says of some steps that they failed, the first time that they are made."""

    bad = (7, 8, 9)

    def figures(self, logs: dict[str, Any], targets: int) -> Figures:
        found = super().figures(logs, targets)
        self.made = getattr(self, "made", 0) + 1
        if self.made in self.bad:
            return Figures(float("nan"), float("nan"), targets, "the gradient is not finite")
        return found


def test_a_rollback_inside_fit_goes_on_from_the_safe_step_with_the_right_batches(tmp_path: Path) -> None:
    seen: list[int] = []

    def take(step: int) -> Batch:
        seen.append(step)
        return sample(step)

    failing = Failing(model(lively=False), settings(optimizer="adamw"))
    driver = drive(tmp_path / "a", failing, take=take, steps=12)
    assert driver.state.rollbacks == 1 and driver.state.step == 12
    back = events(tmp_path / "a", "train.rollback")[0]
    assert (back["step"], back["to_step"]) == (9, 6)
    assert [line["learning_rate"] for line in events(tmp_path / "a", "train.step")][-1] == 0.005
    # The same by hand: six steps, then again from there at half the rate.
    ours = KerasBackend(model(lively=False), settings(optimizer="adamw"))
    for step in range(1, 7):
        ours.step(sample(step), 0.01)
    for step in range(7, 13):
        ours.step(sample(step), 0.005)
    assert ours.evaluate([sample(0)]) == pytest.approx(driver.state.validation_loss, rel=1e-5)


def test_a_source_that_fails_fails_in_its_own_words(tmp_path: Path) -> None:
    def take(step: int) -> Batch:
        if step == 5:
            raise DataError("data.broken", "A shard is broken.", where="train-00000.shard", mend="Mend it.")
        return sample(step)

    with pytest.raises(DataError, match=r"train-00000\.shard: A shard is broken"):
        drive(tmp_path, backend(), take=take)


# ---- the same bits -------------------------------------------------------------------------------------------------


def test_interrupted_and_resumed_is_the_same_model(tmp_path: Path) -> None:
    trained(tmp_path / "a", train__schedule="plateau")
    recipe, store = recurrent(tmp_path / "b", train__schedule="plateau")
    for step in (3, 8):
        stop = threading.Event()
        with pytest.raises(Interrupted):
            train(recipe, store, StopAt(stop, step), stop)
    train(recipe, store, Progress(), threading.Event())
    assert written(tmp_path / "a") == written(tmp_path / "b")
    assert last_checkpoint(tmp_path / "a") == last_checkpoint(tmp_path / "b")


def test_checkpoints_change_nothing_and_the_seed_does(tmp_path: Path) -> None:
    trained(tmp_path / "a")
    trained(tmp_path / "b", train__checkpoint_every="2 steps")
    assert written(tmp_path / "a") == written(tmp_path / "b")
    recipe, store = recurrent(tmp_path / "c")
    train(recipe.replace(seed=2), store, Progress(), threading.Event())
    assert written(tmp_path / "c") != written(tmp_path / "a")


def test_a_model_of_ones_own_resumes_too_and_keeps_its_names(tmp_path: Path) -> None:
    L = keras.layers
    first, again = (
        keras.Sequential([L.Input((None,), dtype="int32"), L.Embedding(257, 8), L.GRU(8, seed=1), L.Dropout(0.2, seed=1),
                          L.Dense(257)])  # the second has other names
        for _ in range(2)
    )  # fmt: skip
    for name, plain in (("a", first), ("b", again)):
        plain.set_weights(first.get_weights())
        plain.save(tmp_path / f"{name}.keras")
    changes = {"train": RNN["train"], "model": {"family": "rnn", "context": 16}}
    recipe, store = prepared(tmp_path / "a", **changes, model__from=str(tmp_path / "a.keras"))
    train(recipe, store, Progress(), threading.Event())
    recipe, store = prepared(tmp_path / "b", **changes, model__from=str(tmp_path / "b.keras"))
    stop = threading.Event()
    with pytest.raises(Interrupted):
        train(recipe, store, StopAt(stop, 5), stop)
    train(recipe, store, Progress(), threading.Event())
    one, two = (load_network(OpenStore(tmp_path / name, writable=False)).plain for name in ("a", "b"))
    assert all(np.array_equal(x, y) for x, y in zip(one.get_weights(), two.get_weights(), strict=True))
    assert [layer.name for layer in two.layers] == [layer.name for layer in again.layers]


@pytest.mark.parametrize("kind", ["bf16", "private"])
def test_killed_it_ends_bit_for_bit_where_the_uninterrupted_run_ends(
    tmp_path: Path, cores: int, kind: str
) -> None:
    changes = {"train__precision": "bf16", "train__checkpoint_every": "2 steps"}
    if kind == "private":
        changes |= PRIVATE | {"model__context": 8}
    trained(tmp_path / "a", **changes)
    recurrent(tmp_path / "b", **changes)
    assert killed(tmp_path / "b", cores, 5, 0.005)
    assert not killed(tmp_path / "b", cores, 13, 0)
    assert written(tmp_path / "a") == written(tmp_path / "b")
    assert last_checkpoint(tmp_path / "a") == last_checkpoint(tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_killed_many_times(tmp_path: Path, cores: int, precision: str, optimizer: str) -> None:
    changes = {
        "train__precision": precision, "train__optimizer": optimizer, "train__checkpoint_every": "1 steps",
        "train__budget": "60 steps", "train__schedule": "plateau", "model__cell": "gru", "model__layers": 2,
    }  # fmt: skip
    trained(tmp_path / "a", **changes)
    recurrent(tmp_path / "b", **changes)
    kill_at_random(tmp_path / "b", cores, 4, 60, seed=time.time_ns())
    assert written(tmp_path / "a") == written(tmp_path / "b")
    assert last_checkpoint(tmp_path / "a") == last_checkpoint(tmp_path / "b")


def test_a_sealed_run_leaves_nothing_of_the_model_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHUYUAN_TRAIN_TEST", "a passphrase for a test")
    trained(tmp_path / "a")
    monkeypatch.setattr("tempfile.NamedTemporaryFile", lambda *_, **__: pytest.fail("a temporary file"))
    monkeypatch.setattr("tempfile.TemporaryDirectory", lambda *_, **__: pytest.fail("a temporary folder"))
    recipe, store = recurrent(tmp_path / "b", vault__key="env:SHUYUAN_TRAIN_TEST")
    train(recipe, store, Progress(), threading.Event())
    assert store.read("model/model.keras") == written(tmp_path / "a")
    store.close()
    with open_store(Run(tmp_path / "b"), "env:SHUYUAN_TRAIN_TEST", writable=False) as store:
        assert load_network(store).config.layers == 1
    found = b"".join(file.read_bytes() for file in (tmp_path / "b").rglob("*") if file.is_file())
    assert b"recurrent_kernel" not in found and b"model.weights.h5" not in found


def test_the_settings_of_the_process_are_put_back(tmp_path: Path) -> None:
    from tensorflow.python.framework import config

    before = np.random.get_state()[1].copy()
    trained(tmp_path / "run")
    assert not config.is_op_determinism_enabled()
    assert np.array_equal(np.random.get_state()[1], before)
    assert keras.config.dtype_policy().name == "float32"


# ---- windows with one target --------------------------------------------------------------------------------------


def test_the_textbooks_way_learns_from_every_token(tmp_path: Path) -> None:
    recipe, store = recurrent(
        tmp_path / "run", model__predict="last", model__cell="simple", train__budget="1 epochs"
    )
    split = store.read_json("data/manifest.json")["splits"]["train"]
    assert recipe.train.steps == -(-split["tokens"] // 8)
    recipe = recipe.replace(**{"train.steps": 12})
    result = train(recipe, store, Progress(), threading.Event())
    assert result.tokens == 12 * 8
    assert load_network(store).plain.output_shape == (None, 257)


# ---- frameworks ------------------------------------------------------------------------------------------------------


LOADED = """
import sys, threading
from shuyuan.progress import Progress
from shuyuan.runs import Run
from shuyuan.train import train
from shuyuan.vault import open_store
run = Run(sys.argv[1])
with open_store(run, None) as store:
    train(run.recipe(), store, Progress(), threading.Event())
print(*sorted({"torch", "tensorflow", "keras"} & set(sys.modules)))
"""


@pytest.mark.parametrize("private", [False, True])
def test_only_the_framework_of_the_family_is_loaded(tmp_path: Path, private: bool) -> None:
    recurrent(tmp_path / "rnn", **(PRIVATE | {"model__context": 8} if private else {}))
    done = subprocess.run(
        [sys.executable, "-c", LOADED, tmp_path / "rnn"],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert done.stdout.split() == ["keras", "tensorflow"]


def test_a_transformer_loads_no_tensorflow(tmp_path: Path) -> None:
    prepared(tmp_path / "run", train__budget="2 steps")
    done = subprocess.run(
        [sys.executable, "-c", LOADED, tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert done.stdout.split() == ["torch"]


def test_what_the_family_does_not_do_is_refused_before_any_work() -> None:
    with pytest.raises(RecipeError, match=r"train\.optimizer"):
        from_table({"data": {"source": "/a"}, "model": {"family": "rnn"}, "train": {"optimizer": "muon"}})
    assert issubclass(KerasBackend, object) and not issubclass(KerasBackend, StepByStep)
    assert CHILD.exists() and tf.executing_eagerly()
