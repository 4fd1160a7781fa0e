"""A private step of the family rnn beside a plain Keras step on the same batch, and beside a per-example `vectorized_map`.

    python benchmarks/keras_private_step.py [--cell lstm] [--layers 1] [--width 256] [--context 64] [--batch 64] [--rounds 5]

Plain is `train_on_batch` of the same model as Keras computes it; ours is a step with clipped gradients of each row, noise and
update; "ours plain" the library's own plain step. `vectorized_map` takes the gradient of each row of an unrolled copy, as a
tensorflow-privacy user would today, without noise; it is left out with `--skip-map`. All take turns; the median of each counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from shuyuan.hardware import detect
from shuyuan.models.keras_library import keras_library
from shuyuan.models.rnn import POLICIES, RnnModel, build
from shuyuan.models.rnn_config import RnnConfig
from shuyuan.privacy import mechanism
from shuyuan.recipe import Model, Train
from shuyuan.train.backend import Batch
from shuyuan.train.keras_backend import KerasBackend
from shuyuan.train.keras_private import PrivateKerasBackend

keras, tf = keras_library()
Step = Callable[[], object]


def plain_keras(config: RnnConfig, precision: str, batch: Batch) -> Step:
    """A step of Keras itself."""
    model = RnnModel(config, build(config, 1))
    model.compute_in(precision)
    optimizer = keras.optimizers.AdamW(1e-3, global_clipnorm=1.0)
    model.plain.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    inputs, targets = model.inputs(batch.inputs_BT), model.targets(batch.targets_BT)
    return lambda: model.plain.train_on_batch(inputs, targets)


def mapped(config: RnnConfig, precision: str, batch: Batch) -> Step:
    """Gradients of each row by vectorized_map over an unrolled copy, clipped and summed."""
    keras.config.set_dtype_policy(POLICIES[precision])
    cell = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "simple": keras.layers.SimpleRNN}
    layers: list[Any] = [keras.layers.Input((config.context,), dtype="int32")]
    layers.append(keras.layers.Embedding(config.vocab_size, config.width))
    layers += [cell[each.kind](each.units, return_sequences=True, unroll=True) for each in config.recurrent]
    model = keras.Sequential([*layers, keras.layers.Dense(config.vocab_size, dtype="float32")])
    keras.config.set_dtype_policy("float32")
    weights = [weight.value for weight in model.trainable_variables]

    def of_one(row: Any) -> Any:
        inputs, targets = row
        with tf.GradientTape() as tape:
            out = model(inputs[None], training=True)[0]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, out))
        gradients = [tf.convert_to_tensor(each) for each in tape.gradient(loss, weights)]
        factor = tf.minimum(1.0, 1.0 / tf.linalg.global_norm(gradients))
        return [each * factor for each in gradients]

    @tf.function  # type: ignore[untyped-decorator]
    def step(inputs: Any, targets: Any) -> Any:
        return [tf.reduce_sum(each, 0) for each in tf.vectorized_map(of_one, (inputs, targets))]

    inputs, targets = (tf.constant(part, tf.int32) for part in (batch.inputs_BT, batch.targets_BT))
    return lambda: step(inputs, targets)[0].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description="A private step of a recurrent model beside a plain one.")
    parser.add_argument("--cell", default="lstm", choices=["lstm", "gru", "simple"])
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--vocab", type=int, default=257)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-map", action="store_true")
    options = parser.parse_args()

    shape = {"family": "rnn", "cell": options.cell, "layers": options.layers, "width": options.width}
    config = RnnConfig.from_recipe(
        Model.model_validate(shape | {"context": options.context}), options.vocab, 0
    )
    tokens = np.random.default_rng(0).integers(0, options.vocab, (options.batch, options.context + 1))
    batch = Batch(1, tokens[:, :-1].copy(), tokens[:, 1:].copy(), np.arange(options.batch))
    trial = mechanism(units=10 * options.batch, expected_batch=options.batch, steps=100, noise_multiplier=1.0)
    steps: dict[str, Step] = {}
    for precision in ("fp32", "bf16"):
        train = Train.model_validate({
            "batch_size": options.batch, "micro_batch": options.batch, "precision": precision, "optimizer": "adamw",
            "learning_rate": 1e-3, "weight_decay": 0.1,
        })  # fmt: skip
        private = PrivateKerasBackend(RnnModel(config, build(config, 1)), train, trial, bytes(32))
        own = KerasBackend(RnnModel(config, build(config, 1)), train)
        steps[f"private {precision}"] = lambda private=private: private.step(batch, 1e-3)  # type: ignore[misc]
        steps[f"ours plain {precision}"] = lambda own=own: own.step(batch, 1e-3)  # type: ignore[misc]
        steps[f"Keras plain {precision}"] = plain_keras(config, precision, batch)
        if not options.skip_map:
            steps[f"vectorized_map {precision}"] = mapped(config, precision, batch)

    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds + 1):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            if turn:  # the first turn compiles
                seconds[name].append(time.perf_counter() - begun)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    print(
        f"{config.layers} x {config.width} {options.cell}, {config.parameters:,} parameters, {options.batch} units of "
        f"{options.context} tokens a step, {detect().name}, {detect().cores} cores"
    )
    for name, time_ in median.items():
        print(f"{name:22}{time_ * 1e3:8.0f} ms")
    ratios = {}
    for precision in ("fp32", "bf16"):
        own = median[f"private {precision}"]
        ratios[f"times_keras_{precision}"] = own / median[f"Keras plain {precision}"]
        ratios[f"times_ours_{precision}"] = own / median[f"ours plain {precision}"]
        if not options.skip_map:
            ratios[f"of_vectorized_map_{precision}"] = own / median[f"vectorized_map {precision}"]
    milliseconds = {name: round(time_ * 1e3, 1) for name, time_ in median.items()}
    print(json.dumps({"step_ms": milliseconds, **{name: round(ratio, 3) for name, ratio in ratios.items()}}))


if __name__ == "__main__":
    main()
