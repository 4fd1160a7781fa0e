"""Training by Keras itself: compile, fit, and one callback through which the driver is told of each step.

Legend: B rows, T positions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.keras_library import keras_library
from ..models.rnn import NOTHING, RnnModel
from ..recipe import Train
from .backend import Arrays, Batch, Figures, Steps
from .keras_optimizers import optimizer_for
from .memory import peak_memory

keras, tf = keras_library()

_Callback: Any = keras.callbacks.Callback
NOT_FINITE = "the gradient is not finite"
READ_AHEAD = 2  # batches that wait for the step


class KerasBackend:
    """Trains a recurrent model.

    Args:
        model: its weights are trained in place.
        train: the recipe's section, resolved.
        guarded: whether a gradient that is not finite leaves the weights as they are.
    """

    device = "cpu"

    def __init__(self, model: RnnModel, train: Train, *, guarded: bool = True) -> None:
        if train.precision == "auto" or train.optimizer == "auto":
            raise ValueError("the recipe is not resolved")
        self.model = model
        self.parameters: int = model.plain.count_params()
        model.compute_in(train.precision)
        self.optimizer = optimizer_for(model.working, train, guarded=guarded)
        model.working.compile(
            optimizer=self.optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=NOTHING),
            jit_compile=False,  # a recurrent loop in bf16 takes XLA four times as long
        )

    def close(self) -> None:
        """Puts the formats back that the model had."""
        self.model.compute_in(None)

    # -- the work --

    def train(self, steps: Steps) -> None:
        """Lets Keras fit the model; once more from another step where the driver has gone back."""
        while steps.next is not None:
            source = _Source(self.model, steps)
            try:
                self.model.working.fit(
                    source.dataset(),
                    epochs=1,
                    verbose=0,
                    shuffle=False,
                    callbacks=[_told(self, steps, source)],
                )
            except tf.errors.OpError:
                if source.failure is None:
                    raise
            if source.failure is not None:
                raise source.failure

    def step(self, batch: Batch, learning_rate: float) -> Figures:
        """One step, by the function that `fit` calls too."""
        self.set_rate(learning_rate)
        self.model.working.reset_metrics()
        logs = self.model.working.train_on_batch(
            self.model.inputs(batch.inputs_BT), self.model.targets(batch.targets_BT), return_dict=True
        )
        return self.figures(logs, targets_in(batch))

    def figures(self, logs: dict[str, Any], targets: int) -> Figures:
        """What Keras says of a step, in the driver's words."""
        norm = float(self.optimizer.norm.numpy())
        return Figures(float(logs["loss"]), norm, targets, None if math.isfinite(norm) else NOT_FINITE)

    def set_rate(self, learning_rate: float) -> None:
        """The learning rate of the next step."""
        self.optimizer.learning_rate = learning_rate

    def evaluate(self, batches: Sequence[Batch]) -> float:
        """Mean loss over the targets of all batches, in nats; the state stays as it is."""
        total = math.fsum(self.model.loss(batch.inputs_BT, batch.targets_BT) for batch in batches)
        return total / max(1, sum(map(targets_in, batches)))

    # -- the state --

    def state(self) -> Arrays:
        """Everything that the next step depends on, by name: weights, the seeds of dropout, the optimizer."""
        return {name: np.asarray(variable.numpy()) for name, variable in self._variables().items()}

    def layout(self) -> Arrays:
        """Names, shapes and types of a state."""
        return self.state()

    def load(self, arrays: Arrays) -> None:
        """Goes on from a `state` with the same names, shapes and types."""
        for name, variable in self._variables().items():
            variable.assign(arrays[name])

    def _variables(self) -> dict[str, Any]:
        """By place and kind: Keras' own names count how many layers the process has made."""
        own = {
            f"weights.{number:03}.{variable.name}": variable
            for number, variable in enumerate(self.model.plain.variables)
        }
        return own | {
            f"optimizer.{number:03}.{variable.name.rpartition('_')[2]}": variable
            for number, variable in enumerate(self.optimizer.variables)
        }

    def peak_bytes(self) -> int:
        """The most memory that the process has used so far."""
        return peak_memory(self.device)


class _Source:
    """The batches of one `fit`, read by TensorFlow on a thread of its own.

    Attributes:
        targets: how many each batch that was read has, in order.
        failure: what went wrong in reading; TensorFlow would tell of it in words of its own.
    """

    def __init__(self, model: RnnModel, steps: Steps) -> None:
        self.targets: deque[int] = deque()
        self.failure: BaseException | None = None
        self._model = model
        self._steps = steps

    def dataset(self) -> Any:
        """A tf.data.Dataset of (inputs, targets), from the step that is next to the last one."""
        inputs = tf.TensorSpec((None, None), tf.int32)
        targets = tf.TensorSpec((None,) if self._model.config.head[0] == 1 else (None, None), tf.int32)
        made = tf.data.Dataset.from_generator(self._batches, output_signature=(inputs, targets))
        return made.prefetch(READ_AHEAD)

    def _batches(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        first = self._steps.next
        assert first is not None
        try:
            for step in range(first, self._steps.last + 1):
                batch = self._steps.batch(step)
                self.targets.append(targets_in(batch))
                yield self._model.inputs(batch.inputs_BT), self._model.targets(batch.targets_BT)
        except Exception as error:
            self.failure = error
            raise


def _told(backend: KerasBackend, steps: Steps, source: _Source) -> Any:
    """The callback."""

    class Told(_Callback):  # type: ignore[misc]
        """Asks the driver for the learning rate before each batch, and tells it the figures after it."""

        def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            backend.set_rate(steps.rate)
            self.model.reset_metrics()  # Keras shows the mean of all batches so far

        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            step = steps.next
            assert step is not None and logs is not None
            steps.made(backend.figures(logs, source.targets.popleft()))
            if steps.next != step + 1:  # the last step, or the driver has gone back
                self.model.stop_training = True

    return Told()


def targets_in(batch: Batch) -> int:
    """Targets that are learned."""
    return int((batch.targets_BT >= 0).sum())


@contextmanager
def repeatable(cores: int, seed: int, precision: str) -> Iterator[None]:
    """Makes TensorFlow compute the same bits each time, inside. The number of threads is set when it is loaded, and random
    numbers come from seeds that are part of the model's state, so neither `cores` nor `seed` matters here.
    """
    from tensorflow.python.framework import config  # there is no public way to put the setting back

    before = config.is_op_determinism_enabled()
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if not before:
            config.disable_op_determinism()
