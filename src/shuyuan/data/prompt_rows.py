"""Rows of records with prompts, as they are trained on: answers are the only targets.

Legend: B rows of a batch, T tokens of a row, R records of the split, N rows of the split.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..vault import Store
from .batches import NOTHING, Batch, InOrder
from .manifest import Manifest
from .prompts import FIRST, targets_of
from .shards import Tokens
from .stored import StoredRecords
from .widths import WIDTHS


class PromptRows(InOrder[Batch]):
    """The rows of a split, one after another as they are stored; a record may have several.

    Args:
        store: the run's files.
        manifest: what was prepared, for a task with prompts.
        split: "train", "validation" or "test".
        context: tokens of a row, T.

    Attributes:
        count: number of rows.
        tokens: number of targets: the learned tokens.
        record_N: the record of each row.
        owners_N: keyed hash of its owner.

    Raises:
        DataError: a shard is not one.
    """

    def __init__(self, store: Store, manifest: Manifest, split: str, context: int) -> None:
        self._records = StoredRecords(store, manifest, split)
        self._end_id = manifest.marks.end_id
        self._context = context
        self.record_N, self._start_N, self._stop_N = self._records.starts(FIRST)
        self.owners_N = self._records.owners_R[self.record_N]
        self.count = len(self._start_N)
        self.tokens = manifest.splits[split].learned

    def row(self, number: int) -> tuple[Tokens, NDArray[np.uint8]]:
        """Tokens and roles of a row.

        Args:
            number: of the row, from 0 up to `count`.

        Returns:
            (T,) ids and (T,) uint8, whose bits are those of `prompts`.
        """
        place = int(self.record_N[number]), int(self._start_N[number]), int(self._stop_N[number])
        return self._records.read(*place), self._records.roles(*place)

    def at(self, numbers: NDArray[np.int64]) -> Batch:
        """Some rows, by their numbers: (inputs_BT, targets_BT).

        Args:
            numbers: B of them, from 0 up to `count`, in any order; at least one.

        Returns:
            Both int64 and as wide as the widest of these rows, rounded up to a multiple of `WIDTHS`; targets that are not learned are
            `NOTHING`.
        """
        rows = [self.row(number) for number in numbers.tolist()]
        longest = max(len(ids) for ids, _ in rows) - 1
        return learned_rows(rows, self._end_id, min(-(-longest // WIDTHS) * WIDTHS, self._context))


def learned_rows(rows: list[tuple[Tokens, NDArray[np.uint8]]], end_id: int, width: int) -> Batch:
    """Inputs and targets (N, width) of rows given as tokens and roles, filled up with end tokens that nothing is learned from.

    Args:
        rows: (T,) ids and roles of each of N rows; at most `width` + 1 tokens.
        end_id: the end token.
        width: of the result.
    """
    inputs = np.full((len(rows), width), end_id, np.int64)
    targets = np.full((len(rows), width), NOTHING, np.int64)
    for place, (ids, roles) in enumerate(rows):
        row = ids.astype(np.int64)
        inputs[place, : len(row) - 1] = row[:-1]
        targets[place, : len(row) - 1] = targets_of(row, roles, NOTHING)
    return inputs, targets
