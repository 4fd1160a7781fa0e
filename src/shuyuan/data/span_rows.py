"""Rows of questions and texts as they are trained on: the places where the answer begins and ends are the only targets.

Legend: B rows of a batch, T tokens of a row, R records of the split, N rows of the split.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..vault import Store
from .batches import Batch, InOrder
from .manifest import Manifest
from .pairs import Asked, Window, filled_windows, places, windows
from .prompts import BEGINS, LEARNED
from .stored import StoredRecords


class StoredPairs:
    """The questions and texts of a split, each record whole; its windows are cut when they are read.

    Args:
        records: of the split.
        manifest: what was prepared.
        context: tokens of a row, T.

    Attributes:
        question_R: tokens of each record's question.
    """

    def __init__(self, records: StoredRecords, manifest: Manifest, context: int) -> None:
        assert manifest.pair is not None, "answers are no places in a text"
        self._records, self._around, self._context = records, manifest.pair, context
        self.question_R = records.starts(BEGINS)[1][
            1::2
        ]  # a record has two pieces, and its text begins behind its question

    def asked(self, record: int) -> Asked:
        """A record's question, text and answer."""
        length, border = int(self._records.length_R[record]), int(self.question_R[record])
        ids = self._records.read(record, 0, length).tolist()
        answer = np.flatnonzero(self._records.roles(record, border, length) & LEARNED)
        place = (int(answer[0]), int(answer[-1]) + 1) if len(answer) else None
        return Asked(ids[:border], ids[border:], place)

    def count(self, record: int) -> int:
        """Windows of a record."""
        question = int(self.question_R[record])
        text = int(self._records.length_R[record]) - question
        return len(places(question, text, self._around, self._context))

    def windows(self, record: int) -> tuple[list[Window], list[tuple[int, int]]]:
        """The windows of a record, and what is learned of each."""
        asked = self.asked(record)
        rows = windows(asked, self._around, self._context)
        return rows, [row.target(asked.answer) for row in rows]


class SpanRows(InOrder[Batch]):
    """The windows of a split, those of a record one after another.

    Args:
        store: the run's files.
        manifest: what was prepared, for a task whose answers are places in a text.
        split: "train", "validation" or "test".
        context: tokens of a row, T.

    Attributes:
        count: number of rows.
        tokens: number of targets: two a row.
        records: R.
        owners_R: keyed hash of each record's owner.

    Raises:
        DataError: a shard is not one.
    """

    def __init__(self, store: Store, manifest: Manifest, split: str, context: int) -> None:
        stored = StoredRecords(store, manifest, split)
        self._pairs, self._context = StoredPairs(stored, manifest, context), context
        self.records, self.owners_R = stored.count, stored.owners_R
        counts = [self._pairs.count(record) for record in range(stored.count)]
        self._record_N = np.repeat(np.arange(stored.count), counts)
        self._first_R = np.cumsum([0, *counts])
        self.count = len(self._record_N)
        self.tokens = 2 * self.count

    def asked(self, record: int) -> Asked:
        """A record's question, text and answer as tokens.

        Args:
            record: its number, from 0 up to `records`.
        """
        return self._pairs.asked(record)

    def at(self, numbers: NDArray[np.int64]) -> Batch:
        """Some rows, by their numbers: (inputs_B2T, targets_B2).

        Args:
            numbers: B of them, from 0 up to `count`, in any order.

        Returns:
            Both int64. Inputs as in `pairs`; targets are the row's first and last token of the answer, or `NOWHERE`.
        """
        rows, targets = [], []
        for number in numbers.tolist():
            record = int(self._record_N[number])
            cut, learned = self._pairs.windows(record)
            place = number - int(self._first_R[record])
            rows.append(cut[place])
            targets.append(learned[place])
        return filled_windows(rows, self._context), np.array(targets, np.int64).reshape(-1, 2)


def all_windows(pairs: StoredPairs, records: Sequence[int], context: int) -> Batch:
    """Every window of some records, as long as the context whatever they hold.

    Args:
        pairs: of a split.
        records: numbers of those that are wanted.
        context: T.

    Returns:
        (N, 2, T), as in `pairs`, and (N, 2): the row's first and last token of the answer.
    """
    rows, targets = [], []
    for record in records:
        cut, learned = pairs.windows(record)
        rows += cut
        targets += learned
    return filled_windows(rows, context, context), np.array(targets, np.int64).reshape(-1, 2)
