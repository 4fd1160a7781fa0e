"""A few more steps for a model that is trained: what pruning took, the weights that are left can learn to make good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..data import Manifest, open_split
from ..hardware import detect
from ..progress import Progress
from ..recipe import Budget, Recipe
from ..vault import Store
from .augment import moved
from .backend import Batch
from .distributed import ALONE
from .framework import framework_of
from .resolve import steps_of
from .training import validation_batches

RATE_SHARE = 0.3  # of the learning rate that the model was trained with; it falls to zero in a line


def tune(
    recipe: Recipe,
    store: Store,
    manifest: Manifest,
    model: Any,
    budget: str,
    between: Callable[[int, int], None],
    smaller: bool,
    progress: Progress,
) -> None:
    """Trains a network of PyTorch further, in place, on batches that follow those of its training.

    A smaller model that is no better for it stays as it was, which is said: one that has learned all that its records tell learns them by
    heart in more steps.

    Args:
        recipe: of the run, resolved, without privacy: nothing here is clipped or noised.
        store: the run's files.
        manifest: of the prepared data.
        model: the trained network.
        budget: steps, epochs or tokens.
        between: called before the first step and after each, with the step and their number.
        smaller: whether it is made smaller before the first step, and not only on the way.
        progress: shows the steps.
    """
    assert recipe.privacy is None
    train, framework, hardware = recipe.train, framework_of(recipe), detect()
    assert isinstance(train.batch_size, int) and isinstance(train.learning_rate, float) and train.steps
    split = open_split(store, manifest, "train", recipe.model.context)
    steps = steps_of(Budget.parse(budget), recipe, manifest)
    with (
        framework.repeatable(hardware.cores, recipe.seed, train.precision),
        progress.stage("train what is left", steps, "steps") as stage,
    ):
        backend = framework.backend(model, train.model_copy(update={"compile": False}), hardware, ALONE)
        between(0, steps)
        held_out = list(validation_batches(recipe, store, manifest)) if smaller else []
        before = backend.evaluate(held_out)
        weights = (
            {name: weight.detach().clone() for name, weight in model.named_parameters()} if held_out else {}
        )
        for step in range(1, steps + 1):
            number = train.steps + step
            inputs, targets = split.batch(number - 1, train.batch_size, recipe.seed)
            inputs = moved(inputs, recipe, np.random.default_rng((recipe.seed, number)))
            rate = RATE_SHARE * train.learning_rate * (steps + 1 - step) / steps
            backend.step(Batch(number, inputs, targets), rate)
            between(step, steps)
            stage.advance()
        after = backend.evaluate(held_out)
        if weights and not after < before:
            _put_back(model, weights)
            progress.say(
                "compress.not-recovered",
                f"Training what is left did not help: a held-out loss of {after:.4f} nats, and {before:.4f} without. The variant is the one without.",
            )
        backend.close()


def _put_back(model: Any, weights: dict[str, Any]) -> None:
    for name, weight in model.named_parameters():
        weight.data.copy_(weights[name])
