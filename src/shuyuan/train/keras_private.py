"""Private steps in Keras: clipped gradients of each unit, summed and noised; the optimizer is Keras' own."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..models.keras_library import keras_library
from ..models.rnn import RnnModel
from ..privacy import Mechanism
from ..privacy.array_noise import ArrayNoise
from ..privacy.keras import KerasClipper
from ..recipe import Train
from .backend import Batch, Figures, StepByStep, Steps
from .keras_backend import KerasBackend
from .unit_batches import physical

keras, tf = keras_library()


class PrivateKerasBackend(KerasBackend):
    """Trains a recurrent model with clipped and noised sums of its units' gradients.

    Whatever the gradients are, a step is made: none is skipped, scaled or repeated for what the records hold.

    Args:
        model: its weights are trained in place.
        train: the recipe's section, resolved.
        mechanism: what a step does.
        secret: 32 bytes, from which the noise follows.
    """

    def __init__(self, model: RnnModel, train: Train, mechanism: Mechanism, secret: bytes) -> None:
        super().__init__(model, train, guarded=False)
        assert train.micro_batch != "auto"  # resolved
        self._micro_batch = train.micro_batch
        self._mechanism = mechanism
        self._clipper = KerasClipper(model, mechanism.clip, mechanism.clipping)
        self._noise = ArrayNoise(secret)
        self._update = tf.function(self._apply)

    def train(self, steps: Steps) -> None:
        """Makes one step after another: a step is several physical batches, which `fit` does not know."""
        StepByStep.train(self, steps)  # type: ignore[arg-type]

    def step(self, batch: Batch, learning_rate: float) -> Figures:
        """One step, also with an empty batch. The figures tell of records: they stay inside.

        Args:
            batch: with the unit of each row.
            learning_rate: for all parameters.
        """
        total, targets, bad = 0.0, 0, 0
        for part in physical(batch, self._micro_batch):
            assert part.unit_B is not None
            loss, count, not_finite = self._clipper.add(part.inputs_BT, part.targets_BT, part.unit_B)
            total, targets, bad = total + loss, targets + count, bad + not_finite
        gradients = self._noisy(batch.step)
        self.set_rate(learning_rate)
        self._update(gradients)
        norm = math.sqrt(sum(float(np.square(each, dtype=np.float64).sum()) for each in gradients))
        return Figures(total / targets if targets else math.nan, norm, targets, not_finite=bad)

    def _noisy(self, step: int) -> list[NDArray[np.float32]]:
        """Sum plus noise over the expected batch: each weight's gradient."""
        mechanism = self._mechanism
        deviation = mechanism.noise_multiplier * self._clipper.norm
        return [
            self._noise.add(total, deviation, step=step, number=number) / np.float32(mechanism.expected_batch)
            for number, total in enumerate(self._clipper.take())
        ]

    def _apply(self, gradients: list[NDArray[np.float32]]) -> None:
        self.optimizer.apply(gradients, self._clipper.weights)
