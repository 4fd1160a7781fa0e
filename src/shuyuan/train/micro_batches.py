"""The parts of a batch that are computed at once: rows of about one width, so that little is computed for nothing.

Shapes: B rows of a batch, T tokens of a row; of questions and texts, a row has the side of each token beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import NOTHING
from ..data.rows import FILL, WIDTHS
from .backend import Batch

# A part has at least so manieth of the batch's tokens: of fewer, a product is too small to be fast. And its rows are filled up to a
# multiple of so manieth of the batch's: libraries prepare themselves for each new shape, slowly, and remember it.
SHARES = 8


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
        yield Batch(batch.step, _with(inputs[:1], inputs, empty), _with(NOTHING, targets, empty))


def cut(width_B: NDArray[np.int64], most: int) -> Iterator[tuple[slice, int]]:
    """Which rows are computed together, and how wide they are then.

    Args:
        width_B: of each row, the widest first.
        most: rows of a part.
    """
    least = int(width_B.sum()) // SHARES
    first = 0
    for stop in range(1, len(width_B) + 1):
        width = int(width_B[first])
        enough = (stop - first) * width >= least
        if stop == len(width_B) or stop - first == most or (enough and width_B[stop] < width):
            yield slice(first, stop), width
            first = stop


def height(rows: int, batch: int, most: int) -> int:
    """How many rows a part has when it is filled up.

    Args:
        rows: of its own.
        batch: rows of the whole batch.
        most: rows of a part.
    """
    step = max(1, min(most, batch) // SHARES)
    return min(-(-rows // step) * step, min(most, batch))


def _with(value: NDArray[Any] | int, rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Rows, and so many behind them that are all alike."""
    filled = np.broadcast_to(np.asarray(value, rows.dtype), (count, *rows.shape[1:]))
    return np.concatenate([rows, filled])


def _widths(batch: Batch) -> NDArray[np.int64]:
    """Of each row, up to the last token that is learned or, where a row has one label or one answer to find, that is there; a multiple of WIDTHS."""
    tokens_BT = batch.inputs_BT if batch.inputs_BT.ndim == 2 else batch.inputs_BT[:, 0]
    used_BT = batch.targets_BT >= 0 if _each(batch) else tokens_BT != FILL
    T = used_BT.shape[1]
    used_B = np.where(used_BT.any(1), T - used_BT[:, ::-1].argmax(1), 1)
    widths: NDArray[np.int64] = np.minimum(-(-used_B // WIDTHS) * WIDTHS, T)
    return widths


def _each(batch: Batch) -> bool:
    """Whether every token has a target."""
    return batch.targets_BT.shape == batch.inputs_BT.shape
