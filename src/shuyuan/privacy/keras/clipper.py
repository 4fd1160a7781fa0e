"""From a physical batch to the sum of clipped gradients of a Keras model: what a private step releases, before noise.

Legend: N rows, T positions, U units.
"""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import PrivacyError
from ...models.keras_library import keras_library
from ...models.rnn import RnnModel, cross_entropy
from ..mechanism import AUTO_NORM, AUTO_STABILITY, ROUNDING, Clipping
from .contributions import Contribution, Rows, contribution_of
from .taps import Recorder, tapped

keras, tf = keras_library()

Tensor = Any


class KerasClipper:
    """Adds up clipped gradients of units over physical batches, until `take` hands over the sum.

    Args:
        model: its layers with weights are those that `taps` knows.
        clip: the largest norm of a unit's part, or "auto": each unit's gradient is brought to about that norm.
        clipping: "joint": one norm over all weights; "per-layer": one for each weight, all of them together as large.

    Attributes:
        norm: the largest norm of a unit's part.
        weights: those that learn, in order.

    Raises:
        PrivacyError: the model cannot be trained privately as it is; the layer is named.
    """

    def __init__(
        self, model: RnnModel, clip: float | Literal["auto"] = 1.0, clipping: Clipping = "joint"
    ) -> None:
        _check_float32()
        self.norm = AUTO_NORM if clip == "auto" else clip
        self._automatic = clip == "auto"
        self._per_layer = clipping == "per-layer"
        self._recorder = Recorder()
        self._model = model
        self._tapped = tapped(model.plain, self._recorder)
        self.weights: list[Any] = list(self._tapped.trainable_variables)
        if not self.weights:
            raise PrivacyError(
                "privacy.nothing-to-train", "No weight learns.", mend="Set trainable on some layers."
            )
        self._sums: list[Tensor] | None = None
        self._functions: dict[bool, Any] = {}

    def add(
        self, tokens_NT: NDArray[np.integer[Any]], targets_NT: NDArray[np.int64], unit_N: NDArray[np.int64]
    ) -> tuple[float, int, int]:
        """The one backward pass of a physical batch.

        Args:
            tokens_NT: the rows.
            targets_NT: their targets; -100 where nothing is learned. A unit's loss is the mean over its own targets.
            unit_N: the unit of each row, 0 to U - 1 in rising order.

        Returns:
            (sum of the losses, targets, units whose gradient was not finite and counted as zero). Losses of these are left out.
        """
        count = int(unit_N[-1]) + 1
        single = count == len(unit_N)
        table_UK = np.arange(len(unit_N))[:, None] if single else table_of(unit_N, count)
        tokens, targets = self._model.inputs(tokens_NT), self._model.targets(targets_NT)
        loss, learned, bad, sums = self._function(single)(
            tokens, targets, unit_N.astype(np.int32), table_UK.astype(np.int32)
        )
        self._sums = sums if self._sums is None else [a + b for a, b in zip(self._sums, sums, strict=True)]
        return float(loss), int(learned), int(bad)

    def take(self) -> list[NDArray[np.float32]]:
        """The sum of all clipped gradients since the last call, for each weight, float32; zeros where there was no batch."""
        sums, self._sums = self._sums, None
        if sums is None:
            return [np.zeros(tuple(weight.shape), np.float32) for weight in self.weights]
        return [each.numpy() for each in sums]

    # -- inside --

    def _function(self, single: bool) -> Any:
        """The compiled pass; one for batches in which each row is a unit, one for others."""
        if single not in self._functions:
            targets = (None,) if self._model.config.head[0] == 1 else (None, None)
            specs = [tf.TensorSpec((None, self._model.context), tf.int32), tf.TensorSpec(targets, tf.int32)]
            specs += [tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None, None), tf.int32)]

            def clipped(tokens: Tensor, targets: Tensor, unit_N: Tensor, table_UK: Tensor) -> Any:
                count = tf.shape(table_UK)[0]
                return self._clipped(tokens, targets, Rows(unit_N, count, None if single else table_UK))

            self._functions[single] = tf.function(clipped, input_signature=specs)
        return self._functions[single]

    def _clipped(
        self, tokens: Tensor, targets: Tensor, rows: Rows
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            self._recorder.begin(tape)
            losses = cross_entropy(self._tapped(tokens, training=True), targets)
            losses_N, learned_N = _by_row(losses), _by_row(tf.cast(targets >= 0, tf.float32))
            # A denominator of the whole batch would tie units together.
            learned_U = tf.math.unsorted_segment_sum(learned_N, rows.unit_N, rows.count)
            means_N = losses_N / tf.maximum(tf.gather(learned_U, rows.unit_N), 1.0)
            total = tf.reduce_sum(means_N)
        contributions = self._contributions(tape, total, rows)
        factors, keep_U = self._factors([each.square_norms() for each in contributions])
        sums = [each.clipped(factor_U, keep_U) for each, factor_U in zip(contributions, factors, strict=True)]
        finite_N = tf.math.is_finite(losses_N)  # one broken unit does not hide the loss of the others
        loss = tf.reduce_sum(tf.where(finite_N, losses_N, 0.0))
        learned = tf.reduce_sum(tf.where(finite_N, learned_N, 0.0))
        return loss, learned, tf.reduce_sum(tf.cast(~keep_U, tf.int32)), sums

    def _contributions(self, tape: Any, total: Tensor, rows: Rows) -> list[Contribution]:
        """One for each weight, in order."""
        uses = self._recorder.uses
        watched = {id(use.watched): use.watched for use in uses}
        gradients = dict(
            zip(
                watched,
                tape.gradient(total, list(watched.values()), unconnected_gradients="zero"),
                strict=True,
            )
        )
        self._recorder.tape = None
        by_weight: dict[int, list[Any]] = {}
        for use in uses:
            by_weight.setdefault(id(use.weight), []).append((use, gradients[id(use.watched)]))
        missing = [weight.path for weight in self.weights if id(weight) not in by_weight]
        if missing:
            raise PrivacyError(
                "privacy.unseen-parameter",
                f"The weight {missing[0]} learns, and no rule sees what it does.",
                where=missing[0],
                mend="Set trainable = False on its layer, or leave the layer out.",
            )
        return [contribution_of(by_weight[id(weight)], rows) for weight in self.weights]

    def _factors(self, squares: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """What each unit's gradient of each weight is multiplied by, and which units are finite."""
        keep_U = tf.reduce_all(tf.stack([tf.math.is_finite(square_U) for square_U in squares]), 0)
        squares = [tf.where(keep_U, square_U, tf.zeros_like(square_U)) for square_U in squares]
        if not self._per_layer:
            factor_U = self._factor(tf.sqrt(tf.add_n(squares)), self.norm)
            return [factor_U] * len(squares), keep_U
        share = self.norm / len(squares) ** 0.5
        return [self._factor(tf.sqrt(square_U), share) for square_U in squares], keep_U

    def _factor(self, norms_U: Tensor, most: float) -> Tensor:
        bound = most * (1 - ROUNDING)
        if self._automatic:
            return tf.cast(bound / (norms_U + AUTO_STABILITY), tf.float32)
        return tf.cast(bound / tf.maximum(norms_U, bound), tf.float32)


def table_of(unit_N: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The rows of each unit (U, K); N where it has fewer."""
    sizes_U = np.bincount(unit_N, minlength=count)
    table_UK = np.full((count, int(sizes_U.max())), len(unit_N))
    starts_U = np.cumsum(sizes_U) - sizes_U
    table_UK[unit_N, np.arange(len(unit_N)) - starts_U[unit_N]] = np.arange(len(unit_N))
    return table_UK


def _by_row(x: Tensor) -> Tensor:
    return tf.reduce_sum(x, 1) if x.shape.rank == 2 else x


def _check_float32() -> None:
    """Refuses settings under which TensorFlow computes float32 products in fewer bits: a rounded sum can move further than the clip."""
    modes = (
        os.environ.get("TF_SET_ONEDNN_FPMATH_MODE", ""),
        os.environ.get("ONEDNN_DEFAULT_FPMATH_MODE", ""),
    )
    options = tf.config.optimizer.get_experimental_options()
    rewritten = [name for name, on in options.items() if name.startswith("auto_mixed_precision") and on]
    if any(mode.upper() not in ("", "STRICT") for mode in modes) or rewritten:
        raise PrivacyError(
            "privacy.loose-float32",
            "TensorFlow is told to compute float32 products in fewer bits, and sums of clipped gradients would be rounded.",
            where=rewritten[0] if rewritten else "ONEDNN_DEFAULT_FPMATH_MODE",
            mend='Unset it; train.precision = "bf16" is fast where it may be.',
        )
