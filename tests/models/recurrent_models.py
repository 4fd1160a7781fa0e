"""Small recurrent models that tests share."""

from __future__ import annotations

from typing import Any

import numpy as np

from shuyuan.models.keras_library import keras_library
from shuyuan.models.rnn import RnnModel, build, seed_dropout
from shuyuan.models.rnn_config import RnnConfig
from shuyuan.recipe import Model

keras, tf = keras_library()

V, T = 20, 10


def shape(
    cell: str = "lstm", *, labels: tuple[str, ...] = (), vocab_size: int = V, **changes: Any
) -> RnnConfig:
    """A tiny shape."""
    table = {"family": "rnn", "cell": cell, "layers": 2, "width": 12, "context": T} | changes
    return RnnConfig.from_recipe(Model.model_validate(table), vocab_size, 0, labels)


def model(cell: str = "lstm", *, lively: bool = True, **changes: Any) -> RnnModel:
    """A tiny model, with weights large enough that nothing is nearly linear."""
    config = shape(cell, **changes)
    made = RnnModel(config, build(config, 3))
    seed_dropout(made.plain, 3)
    if lively:
        enliven(made.plain)
    return made


def enliven(plain: Any) -> None:
    """Adds random numbers to all weights."""
    random = np.random.default_rng(0)
    for weight in plain.trainable_variables:
        weight.assign(weight + 0.3 * random.normal(size=tuple(weight.shape)))


def rows(config: RnnConfig, count: int = 6, seed: int = 0) -> tuple[Any, Any]:
    """Made-up inputs and targets: some filled up, some with nothing to learn."""
    random = np.random.default_rng(seed)
    inputs = random.integers(0, V, (count, T))
    if config.labels:
        inputs[0, 5:] = inputs[2, 9:] = -1
        return inputs, random.integers(0, len(config.labels), (count, 1))
    targets = random.integers(0, V, (count, T))
    targets[1, 4:] = targets[-1] = -100
    return inputs, targets if config.predict == "every" else targets[:, -1:]
