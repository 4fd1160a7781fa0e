"""The gradient of each unit for one weight of a Keras model, in the cheaper of two forms until the clip factors are known.

As `privacy.clipping.contributions` has it for PyTorch, where every reason is told. A weight here has one use.

Legend: N rows, U units, K rows of the unit that has most, T positions of a unit, I inputs, O outputs, E elements of a weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...models.keras_library import keras_library
from ..cost import KERAS_DENSE_MEMORY
from .taps import Use

keras, tf = keras_library()

Tensor = Any
CANCELLED = 2.0**-10
CHUNK = 2**18  # elements of a weight that are summed at once


class Rows(NamedTuple):
    """Which rows of a physical batch are whose.

    Attributes:
        unit_N: the unit of each row, in rising order from 0.
        count: U.
        table_UK: the rows of each unit; N where it has fewer. None: each row is a unit.
    """

    unit_N: Tensor
    count: Tensor
    table_UK: Tensor | None

    def positions(self, x_NTC: Tensor) -> Tensor:
        """(N, T, C) becomes (U, K·T, C): a unit's rows one after another, zeros where it has fewer."""
        if self.table_UK is None:
            return x_NTC
        empty = tf.zeros_like(x_NTC[:1])
        x_UKTC = tf.gather(tf.concat((x_NTC, empty), 0), self.table_UK)
        return tf.reshape(x_UKTC, (self.count, -1, x_NTC.shape[-1]))

    def sum(self, x_NE: Tensor) -> Tensor:
        """The sum over the rows of each unit, float32."""
        if self.table_UK is None:
            return x_NE
        return tf.math.unsorted_segment_sum(x_NE, self.unit_N, self.count)


class Contribution:
    """What the units add to one weight's gradient."""

    def __init__(self, weight: Any) -> None:
        self.weight = weight

    def square_norms(self) -> Tensor:
        """The squared norm of each unit's gradient, float64 (U,)."""
        raise NotImplementedError

    def clipped(self, factors_U: Tensor, keep_U: Tensor) -> Tensor:
        """The sum over units of factor times gradient, float32, of the weight's shape; 0 of a unit that is not kept."""
        raise NotImplementedError


class Dense(Contribution):
    """One array for each unit, (U, E)."""

    def __init__(self, weight: Any, gradient_UE: Tensor) -> None:
        super().__init__(weight)
        self._elements = math.prod(weight.shape)
        self._gradient_UE = gradient_UE

    def _chunks(self) -> list[Tensor]:
        starts = range(0, self._elements, CHUNK)
        return [tf.cast(self._gradient_UE[:, start : start + CHUNK], tf.float32) for start in starts]

    def square_norms(self) -> Tensor:
        return tf.add_n([tf.cast(tf.reduce_sum(part * part, 1), tf.float64) for part in self._chunks()])

    def clipped(self, factors_U: Tensor, keep_U: Tensor) -> Tensor:
        sums = [tf.matmul(factors_U[None], _kept(part, keep_U))[0] for part in self._chunks()]
        return tf.reshape(tf.concat(sums, 0), self.weight.shape)


class Outer(Contribution):
    """A^T G of each unit, as its two factors."""

    def __init__(self, weight: Any, A_UTI: Tensor, G_UTO: Tensor) -> None:
        super().__init__(weight)
        self._A_UTI, self._G_UTO = A_UTI, G_UTO

    def square_norms(self) -> Tensor:
        A, G = tf.cast(self._A_UTI, tf.float64), tf.cast(self._G_UTO, tf.float64)
        gram = tf.matmul(A, A, transpose_b=True) * tf.matmul(G, G, transpose_b=True)
        at_most_U = tf.reduce_sum(tf.norm(A, axis=2) * tf.norm(G, axis=2), 1)
        return _not_cancelled(tf.reduce_sum(gram, (1, 2)), at_most_U)

    def clipped(self, factors_U: Tensor, keep_U: Tensor) -> Tensor:
        A, G = (tf.cast(_kept(each, keep_U), tf.float32) for each in (self._A_UTI, self._G_UTO))
        weighted = tf.reshape(G * factors_U[:, None, None], (-1, G.shape[-1]))
        total = tf.matmul(tf.reshape(A, (-1, A.shape[-1])), weighted, transpose_a=True)
        return tf.reshape(total, self.weight.shape)


class Table(Contribution):
    """What goes to some rows of an embedding."""

    def __init__(self, weight: Any, ids_UT: Tensor, G_UTI: Tensor) -> None:
        super().__init__(weight)
        self._ids_UT, self._G_UTI = ids_UT, G_UTI

    def square_norms(self) -> Tensor:
        G = tf.cast(self._G_UTI, tf.float64)
        same_UTT = tf.cast(self._ids_UT[:, :, None] == self._ids_UT[:, None], tf.float64)
        total_U = tf.reduce_sum(tf.matmul(G, G, transpose_b=True) * same_UTT, (1, 2))
        return _not_cancelled(total_U, tf.reduce_sum(tf.norm(G, axis=2), 1))

    def clipped(self, factors_U: Tensor, keep_U: Tensor) -> Tensor:
        G = tf.cast(_kept(self._G_UTI, keep_U), tf.float32) * factors_U[:, None, None]
        rows = tf.reshape(G, (-1, G.shape[-1]))
        return tf.math.unsorted_segment_sum(rows, tf.reshape(self._ids_UT, (-1,)), self.weight.shape[0])


def contribution_of(uses: Sequence[tuple[Use, Tensor]], rows: Rows) -> Contribution:
    """What one weight gets.

    Args:
        uses: of the weight, each with the gradient of what was watched: one, or the two parts of a GRU's bias.
        rows: whose rows they are.
    """
    (use, gradient), *_ = uses
    weight = use.weight
    if use.form == "outer":
        return _outer(weight, _sequence(use.other, use), _sequence(gradient, use), rows)
    if use.form == "rows":
        ids_UT1 = rows.positions(_sequence(use.other, use)[..., None])
        return Table(weight, ids_UT1[..., 0], rows.positions(_sequence(gradient, use)))
    parts = []
    for each, grad in sorted(uses, key=lambda pair: pair[0].part or 0):
        grad_NTO = tf.cast(_sequence(grad, each), tf.float32)
        if each.form == "scale":
            grad_NTO *= _sequence(each.other, each)
        parts.append(rows.sum(tf.reduce_sum(grad_NTO, 1)))
    return Dense(weight, tf.concat(parts, 1))


def _outer(weight: Any, A_NTI: Tensor, G_NTO: Tensor, rows: Rows) -> Contribution:
    A_UTI, G_UTO = rows.positions(tf.cast(A_NTI, G_NTO.dtype)), rows.positions(G_NTO)
    inputs, outputs = A_UTI.shape[-1], G_UTO.shape[-1]
    positions = A_UTI.shape[1] or 1
    if positions > 1 and inputs * outputs <= KERAS_DENSE_MEMORY * positions * (inputs + outputs):
        each = tf.matmul(A_UTI, G_UTO, transpose_a=True)
        return Dense(weight, tf.reshape(each, (-1, inputs * outputs)))
    return Outer(weight, A_UTI, G_UTO)


def _sequence(x: Tensor, use: Use) -> Tensor:
    """(N, T) or (N, T, C): rows first, then all positions; one position where there are none."""
    if use.ahead:
        return tf.transpose(x, (1, 0, *range(2, x.shape.rank)))
    if use.form == "rows" and x.dtype.is_integer:
        return x
    if x.shape.rank == 2:
        return x[:, None]
    return x if x.shape.rank == 3 else tf.reshape(x, (tf.shape(x)[0], math.prod(x.shape[1:-1]), x.shape[-1]))


def _not_cancelled(square_U: Tensor, at_most_U: Tensor) -> Tensor:
    """Where parts nearly cancel, a sum keeps their rounding; so no norm counts as less than a share of them."""
    return tf.maximum(square_U, 0.0) + (CANCELLED * at_most_U) ** 2


def _kept(x: Tensor, keep_U: Tensor) -> Tensor:
    return tf.where(tf.reshape(keep_U, (-1, *[1] * (x.shape.rank - 1))), x, tf.zeros((), x.dtype))
