"""Rows of private training: each holds text of one unit alone, so that a unit's part of a step can be told and clipped.

Legend: R records of the split, N rows of a batch, T tokens of a row.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..vault import Store
from .batches import NOTHING, AnyBatch, Batch
from .images import stored_images
from .manifest import Manifest
from .prompt_rows import learned_rows
from .prompts import FIRST
from .rows import filled, stored_row
from .shards import Tokens
from .span_rows import StoredPairs, all_windows
from .stored import StoredRecords


class UnitBatch(NamedTuple):
    """Inputs (N, T), targets (N, T), (N, 1) or, of any number of labels, (N, 1, K), and the unit of each row, 0, 1, … in the order in which units were asked for.

    Of images, the inputs are their pixels (N, C, H, W), uint8; of questions and texts (N, 2, T), and the targets (N, 2).
    """

    inputs_NT: NDArray[np.integer[Any]]
    targets_NT: NDArray[np.int64]
    unit_N: NDArray[np.int64]


class UnitRows:
    """The training split by units.

    A unit gives at most `records_per_unit` of its records, drawn anew each time; a record longer than a row gives a piece
    of it, drawn too. The pieces lie one after another in as few rows as they fill, and rows are filled up with end tokens
    that nothing is learned from. Records with prompts, or with a text to look in, have rows of their own, all of them in the same
    step. Labelled records have a row each, which the context may cut, and its class as the target. So
    have images, whole.

    Args:
        store: the run's files.
        manifest: what was prepared.
        context: tokens of a row, T; images have none.
        unit: "owner": all records of an owner; "record": each record.
        records_per_unit: the most records, and so rows, that a unit gives.

    Attributes:
        count: number of units.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        context: int,
        unit: Literal["owner", "record"],
        records_per_unit: int,
    ) -> None:
        self._context = context
        self._manifest = manifest
        self._most = records_per_unit
        self._records = StoredRecords(store, manifest, "train")
        self._pairs = None if manifest.pair is None else StoredPairs(self._records, manifest, context)
        if unit == "record":
            unit_R = np.arange(len(self._records.owners_R))
        else:
            _, unit_R = np.unique(self._records.owners_R, return_inverse=True)
        self.count = int(unit_R.max()) + 1
        self._by_unit = np.argsort(unit_R, kind="stable")
        self._first = np.searchsorted(unit_R[self._by_unit], np.arange(self.count + 1))

    def rows(self, units: NDArray[np.int64], random: np.random.Generator) -> UnitBatch:
        """The rows of some units; none for no units.

        Args:
            units: their numbers, 0 to `count` - 1.
            random: draws records and pieces.
        """
        parts = [self._rows_of(self._drawn(unit, random), random) for unit in units.tolist()]
        nothing_inputs, nothing_targets = self._nothing()
        inputs = [nothing_inputs, *(inputs for inputs, _ in parts)]
        targets = [nothing_targets, *(targets for _, targets in parts)]
        unit_N = np.repeat(np.arange(len(parts)), [len(rows) for rows, _ in parts])
        return UnitBatch(np.concatenate(inputs), np.concatenate(targets), unit_N)

    def _drawn(self, unit: int, random: np.random.Generator) -> list[int]:
        """The records that a unit gives this time."""
        records = self._by_unit[self._first[unit] : self._first[unit + 1]]
        if len(records) > self._most:
            records = random.choice(records, self._most, replace=False)
        drawn: list[int] = records.tolist()
        return drawn

    def _nothing(self) -> AnyBatch:
        """The rows of no units."""
        if self._pairs is not None:
            return all_windows(self._pairs, [], self._context)
        image = self._manifest.image
        learned = (
            self._records.targets([]) if self._manifest.labels else np.zeros((0, self._context), np.int64)
        )
        if image is not None:
            return np.zeros((0, *image.shape), np.uint8), learned
        return np.zeros((0, self._context), np.int64), learned

    def _rows_of(self, records: list[int], random: np.random.Generator) -> AnyBatch:
        if self._manifest.image is not None:
            return stored_images(self._records, records, self._manifest.image), self._records.targets(records)
        if self._pairs is not None:
            return all_windows(self._pairs, records, self._context)
        if self._manifest.prompted:
            return self._prompted(records)
        return self._labelled(records) if self._manifest.labels else self._packed(records, random)

    def _labelled(self, records: list[int]) -> Batch:
        """One record a row, as long as the context whatever it holds, and its class."""
        rows = [stored_row(self._records, record, self._manifest.marks, self._context) for record in records]
        return filled(rows, self._context), self._records.targets(records)

    def _prompted(self, records: list[int]) -> Batch:
        """The rows of each record, as long as the context whatever they hold."""
        rows = []
        for record in records:
            length = int(self._records.length_R[record])
            ids, roles = self._records.read(record, 0, length), self._records.roles(record, 0, length)
            starts = np.flatnonzero(roles & FIRST).tolist()
            borders = pairwise([*starts, length])
            rows += [(ids[start:stop], roles[start:stop]) for start, stop in borders]
        return learned_rows(rows, self._manifest.marks.end_id, self._context)

    def _packed(self, records: list[int], random: np.random.Generator) -> Batch:
        """Pieces of the records one after another in as few rows as they fill, and the next token at each place."""
        stream = np.concatenate([self._piece(record, random) for record in records])
        rows = np.full(-(-len(stream) // self._context) * self._context, NOTHING, np.int64)
        rows[: len(stream)] = stream
        targets = rows.reshape(-1, self._context)
        end_id = self._manifest.marks.end_id
        inputs = np.full_like(targets, end_id)
        inputs[:, 1:] = np.where(targets == NOTHING, end_id, targets)[:, :-1]
        return inputs, targets

    def _piece(self, record: int, random: np.random.Generator) -> Tokens:
        start, length = 0, int(self._records.length_R[record])
        if length > self._context:
            start = int(random.integers(length - self._context + 1))
        return self._records.read(record, start, min(length, start + self._context))
