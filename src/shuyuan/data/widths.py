"""Rows of unlike widths in parts of about one width, so that little is computed for nothing.

Legend: B rows of a batch, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILL = -1  # an input where no token stands
WIDTHS = 16  # rows are as long as a multiple of it: few shapes to prepare for
# A part has at least so manieth of the batch's tokens: of fewer, a product is too small to be fast. And its rows are filled up to a
# multiple of so manieth of the batch's: libraries prepare themselves for each new shape, slowly, and remember it.
SHARES = 8


def widths(used_BT: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of each row, up to the last place that is used; a multiple of WIDTHS, at most T.

    Args:
        used_BT: which places those are.
    """
    T = used_BT.shape[1]
    used_B = np.where(used_BT.any(1), T - used_BT[:, ::-1].argmax(1), 1)
    width_B: NDArray[np.int64] = np.minimum(-(-used_B // WIDTHS) * WIDTHS, T)
    return width_B


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


def with_fill(value: NDArray[Any] | int, rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Rows, and so many behind them that are all alike.

    Args:
        value: of those, a row or a number.
        rows: any number, of any shape.
        count: of those behind.
    """
    filled = np.broadcast_to(np.asarray(value, rows.dtype), (count, *rows.shape[1:]))
    return np.concatenate([rows, filled])


def by_width(compute: Callable[[NDArray[Any]], NDArray[Any]], inputs: NDArray[Any]) -> NDArray[Any]:
    """What is computed for each row, the widest rows first and each part cut to its widest; images go through as they are.

    Args:
        compute: gives an array with an entry for each row; what rows are filled up with does not change it.
        inputs: rows (B, T), filled up with `FILL` behind their last token, or images.
    """
    if inputs.ndim != 2:
        return compute(inputs)
    width_B = widths(inputs != FILL)
    order = np.argsort(-width_B, kind="stable")
    found: list[NDArray[Any]] = []
    for part, width in cut(width_B[order], len(order)):
        rows = inputs[order[part], :width]
        empty = height(len(rows), len(order), len(order)) - len(rows)
        found.append(compute(with_fill(rows[:1], rows, empty))[: len(rows)])
    computed = np.concatenate(found)
    result = np.empty_like(computed)
    result[order] = computed
    return result
