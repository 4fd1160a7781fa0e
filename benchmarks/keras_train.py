"""Tokens a second of the family rnn beside a hand-written `model.fit` of the same Keras model on the same data.

    python benchmarks/keras_train.py [--cell lstm] [--layers 1] [--width 384] [--context 64] [--batch 64] [--rounds 5]

Theirs is what a Keras user writes: Sequential, compile with AdamW and clipping, the dtype policy, `fit` on a tf.data.Dataset of
arrays. Ours is the same model, trained by `fit` under the driver: batches from shards, a learning rate for each step, the
gradient's norm looked at, the log. Both take turns in this process, some steps at a time; the median of each counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shuyuan.hardware import detect
from shuyuan.models.keras_library import keras_library
from shuyuan.models.rnn import POLICIES, RnnModel, build
from shuyuan.models.rnn_config import RnnConfig
from shuyuan.progress import Progress
from shuyuan.recipe import Model, Train
from shuyuan.train.backend import Batch
from shuyuan.train.checkpoints import Checkpoints
from shuyuan.train.driver import Driver
from shuyuan.train.keras_backend import KerasBackend, repeatable
from shuyuan.vault import OpenStore

keras, tf = keras_library()
STEPS = 12  # of a turn


def batches(options: argparse.Namespace) -> Callable[[int], Batch]:
    """Made-up tokens, a pure function of the step."""

    def sample(step: int) -> Batch:
        shape = (options.batch, options.context + 1)
        tokens = np.random.default_rng(step % 50).integers(0, options.vocab, shape)
        return Batch(step, tokens[:, :-1].copy(), tokens[:, 1:].copy())

    return sample


def ours(
    config: RnnConfig, precision: str, sample: Callable[[int], Batch], folder: Path
) -> Callable[[], None]:
    """Some steps of the library, under its driver."""
    train = Train.model_validate({
        "steps": STEPS, "batch_size": 1, "micro_batch": 1, "precision": precision, "optimizer": "adamw", "learning_rate": 1e-3,
        "checkpoint_every": "1 h", "evaluations": 0, "weight_decay": 0.1,
    })  # fmt: skip
    backend = KerasBackend(RnnModel(config, build(config, 1)), train)
    turns = iter(range(10**6))

    def turn() -> None:
        store = OpenStore(folder / f"{precision}-{next(turns)}")
        kept, journal = Checkpoints(store, {}, {}, 1), store.journal("metrics.jsonl")
        with repeatable(1, 1, precision):
            Driver(train, backend, sample, [], kept, journal, Progress(), threading.Event()).run()

    return turn


def theirs(config: RnnConfig, precision: str, sample: Callable[[int], Batch]) -> Callable[[], None]:
    """Some steps by hand."""
    keras.config.set_dtype_policy(POLICIES[precision])
    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "simple": keras.layers.SimpleRNN}[
        config.recurrent[0].kind
    ]
    stack: list[Any] = [keras.layers.Embedding(config.vocab_size, config.width)]
    stack += [layer(config.width, return_sequences=True) for _ in range(config.layers)]
    model = keras.Sequential([*stack, keras.layers.Dense(config.vocab_size, dtype="float32")])
    keras.config.set_dtype_policy("float32")
    optimizer = keras.optimizers.AdamW(1e-3, global_clipnorm=1.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    parts = [sample(step) for step in range(1, STEPS + 1)]
    arrays = [np.concatenate([getattr(part, name) for part in parts]) for name in ("inputs_BT", "targets_BT")]
    data = tf.data.Dataset.from_tensor_slices(tuple(arrays)).batch(len(parts[0].inputs_BT)).prefetch(2)
    return lambda: model.fit(data, epochs=1, verbose=0, shuffle=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Training speed of recurrent models beside a plain model.fit."
    )
    parser.add_argument("--cell", default="lstm", choices=["lstm", "gru", "simple"])
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--vocab", type=int, default=66)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    shape = {"family": "rnn", "cell": options.cell, "layers": options.layers, "width": options.width}
    config = RnnConfig.from_recipe(
        Model.model_validate(shape | {"context": options.context}), options.vocab, 0
    )
    sample = batches(options)
    with tempfile.TemporaryDirectory() as folder:
        turns: dict[str, Callable[[], None]] = {}
        for precision in ("fp32", "bf16"):
            turns[f"shuyuan {precision}"] = ours(config, precision, sample, Path(folder))
            turns[f"model.fit {precision}"] = theirs(config, precision, sample)
        seconds: dict[str, list[float]] = {name: [] for name in turns}
        for number in range(options.rounds + 1):
            for name, turn in turns.items():
                begun = time.perf_counter()
                turn()
                if number:  # the first turn compiles
                    seconds[name].append((time.perf_counter() - begun) / STEPS)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    print(
        f"{config.layers} x {config.width} {options.cell}, {config.parameters:,} parameters, {options.batch} x "
        f"{options.context} tokens a step, {detect().name}, {detect().cores} cores"
    )
    for name, time_ in median.items():
        print(
            f"{name:16}{time_ * 1e3:8.0f} ms a step{options.batch * options.context / time_:10.0f} tokens/s"
        )
    ratios = {
        f"beside_fit_{name}": median[f"model.fit {name}"] / median[f"shuyuan {name}"]
        for name in ("fp32", "bf16")
    }
    ratios["bf16_speedup"] = median["shuyuan fp32"] / median["shuyuan bf16"]
    milliseconds = {name: round(time_ * 1e3, 1) for name, time_ in median.items()}
    print(json.dumps({"step_ms": milliseconds, **{name: round(ratio, 3) for name, ratio in ratios.items()}}))


if __name__ == "__main__":
    main()
