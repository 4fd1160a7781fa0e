"""Rows of labelled records: one record a row, and its class, or all its labels, as the only target.

Legend: B rows of a batch, T tokens of a row, R records of the split, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..vault import Store
from .batches import Batch, InOrder
from .manifest import Manifest, TokenizerFacts
from .stored import StoredRecords
from .tokenizer import Tokenizer
from .widths import FILL, WIDTHS


class Rows(InOrder[Batch]):
    """The records of a split, each a row that the context may cut, beside its class.

    Args:
        store: the run's files.
        manifest: what was prepared, for a task with labels.
        split: "train", "validation" or "test".
        context: the most tokens of a row.

    Attributes:
        count: number of records, and so of rows.
        tokens: number of targets: one a record.
        cut: records that are longer than a row.
        counts: records of each label.
        owners_R: keyed hash of each record's owner.

    Raises:
        DataError: a shard is not one.
    """

    def __init__(self, store: Store, manifest: Manifest, split: str, context: int) -> None:
        self._records = StoredRecords(store, manifest, split)
        self._marks = manifest.marks
        self._context = context
        self.owners_R = self._records.owners_R
        self.count = self.tokens = len(self._records.length_R)
        self.counts = self._records.counts
        self.cut = int((self._records.length_R + (self._marks.start_id is not None) > context).sum())

    def at(self, numbers: NDArray[np.int64]) -> Batch:
        """Some records, by their numbers: (inputs_BT, targets_B1), or targets_B1K where a record may have any number of labels.

        Args:
            numbers: B of them, from 0 up to `count`, in any order.

        Returns:
            Both int64. Inputs are as wide as the widest of these rows, rounded up to a multiple of `WIDTHS`, and filled up with `FILL`.
        """
        rows = [stored_row(self._records, record, self._marks, self._context) for record in numbers.tolist()]
        longest = max(map(len, rows), default=1)
        width = min(-(-longest // WIDTHS) * WIDTHS, self._context)
        return filled(rows, width), self._records.targets(numbers)


def row_of(tokens: Sequence[int], marks: Tokenizer | TokenizerFacts, context: int) -> list[int]:
    """A text as a row: opened by the start token where there is one, cut to fit, closed by the end token.

    Args:
        tokens: ids of the text alone.
        marks: knows the tokens that open and close a row.
        context: the most tokens of a row.
    """
    opening = [] if marks.start_id is None else [marks.start_id]
    return [*opening, *tokens[: context - len(opening) - 1], marks.end_id]


def stored_row(records: StoredRecords, record: int, marks: TokenizerFacts, context: int) -> list[int]:
    """The row of a record of a shard.

    Args:
        records: of a split.
        record: its number.
        marks: knows the tokens that open and close a row.
        context: the most tokens of a row.
    """
    stop = min(int(records.length_R[record]) - 1, context)  # without the end token that closes a record
    return row_of(records.read(record, 0, stop).tolist(), marks, context)


def filled(rows: list[list[int]], width: int) -> NDArray[np.int64]:
    """Rows as one array, filled up with `FILL`.

    Args:
        rows: B rows of at most `width` numbers.
        width: T of the result, (B, T).
    """
    filled_BT = np.full((len(rows), width), FILL, np.int64)
    for place, row in zip(filled_BT, rows, strict=True):
        place[: len(row)] = row
    return filled_BT
