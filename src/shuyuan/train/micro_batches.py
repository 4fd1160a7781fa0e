"""The parts of a batch that are computed at once: rows of about one width, so that little is computed for nothing.

Shapes: B rows of a batch, T tokens of a row; of questions and texts, a row has the side of each token beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..data import NOTHING
from ..data.widths import FILL, cut, height, widths, with_fill
from .backend import Batch


def micro_batches(batch: Batch, most: int) -> Iterator[Batch]:
    """A batch in parts, the widest rows first, each part as wide as its widest row; equally wide rows stay in their order.

    The sum of their losses is the loss of the batch: what is cut off is neither learned nor seen by what is learned.

    Args:
        batch: of one step, without units.
        most: rows of a part.
    """
    if batch.inputs_BT.ndim > 3:  # images, all of one size
        for first in range(0, len(batch.inputs_BT), most):
            part = slice(first, first + most)
            yield Batch(batch.step, batch.inputs_BT[part], batch.targets_BT[part])
        return
    width_B = _widths(batch)
    order = np.argsort(-width_B, kind="stable")
    for part, width in cut(width_B[order], most):
        rows = order[part]
        inputs = batch.inputs_BT[rows][..., :width]
        targets = batch.targets_BT[rows, :width] if _each(batch) else batch.targets_BT[rows]
        empty = height(len(rows), len(width_B), most) - len(rows)
        yield Batch(batch.step, with_fill(inputs[:1], inputs, empty), with_fill(NOTHING, targets, empty))


def _widths(batch: Batch) -> NDArray[np.int64]:
    """Of each row, up to the last token that is learned or, where a row has one label or one answer to find, that is there; a multiple of WIDTHS."""
    tokens_BT = batch.inputs_BT if batch.inputs_BT.ndim == 2 else batch.inputs_BT[:, 0]
    return widths(batch.targets_BT >= 0 if _each(batch) else tokens_BT != FILL)


def _each(batch: Batch) -> bool:
    """Whether every token has a target."""
    return batch.targets_BT.shape == batch.inputs_BT.shape
