"""Rows of private training: each holds text of one unit alone, so that a unit's part of a step can be told and clipped.

Legend: R records of the split, N rows of a batch, T tokens of a row.
"""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..vault import Store
from .batches import CACHED_BYTES, NOTHING
from .manifest import Manifest
from .shards import Shard, Tokens, token_type


class UnitBatch(NamedTuple):
    """Inputs and targets (N, T), and the unit of each row, 0, 1, … in the order in which units were asked for."""

    inputs_NT: NDArray[np.int64]
    targets_NT: NDArray[np.int64]
    unit_N: NDArray[np.int64]


class UnitRows:
    """The training split by units.

    A unit gives at most `records_per_unit` of its records, drawn anew each time; a record longer than a row gives a piece
    of it, drawn too. The pieces lie one after another in as few rows as they fill, and rows are filled up with end tokens
    that nothing is learned from.

    Args:
        store: the run's files.
        manifest: what was prepared.
        context: tokens of a row, T.
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
        self._end_id = manifest.tokenizer.end_id
        self._most = records_per_unit
        files = ExitStack()
        weakref.finalize(self, files.close)
        self._shards = [
            Shard(files.enter_context(store.open(facts.name)), facts.name)
            for facts in manifest.splits["train"].shards
        ]
        self._cache: list[Tokens] | None = None
        if (
            manifest.splits["train"].tokens * np.dtype(token_type(manifest.vocab_size)).itemsize
            <= CACHED_BYTES
        ):
            self._cache = [shard.read(0, shard.tokens) for shard in self._shards]
        starts, lengths, shards, owners = [], [], [], []
        for number, shard in enumerate(self._shards):
            offsets = shard.offsets().astype(np.int64)
            starts.append(offsets[:-1])
            lengths.append(np.diff(offsets))
            shards.append(np.full(shard.records, number))
            owners.append(shard.owners())
        self._start_R, self._length_R = np.concatenate(starts), np.concatenate(lengths)
        self._shard_R = np.concatenate(shards)
        if unit == "record":
            unit_R = np.arange(len(self._start_R))
        else:
            _, unit_R = np.unique(np.concatenate(owners), return_inverse=True)
        self.count = int(unit_R.max()) + 1
        self._by_unit = np.argsort(unit_R, kind="stable")
        self._first = np.searchsorted(unit_R[self._by_unit], np.arange(self.count + 1))

    def rows(self, units: NDArray[np.int64], random: np.random.Generator) -> UnitBatch:
        """The rows of some units; none for no units.

        Args:
            units: their numbers, 0 to `count` - 1.
            random: draws records and pieces.
        """
        parts = [self._rows_of(unit, random) for unit in units.tolist()]
        tokens = np.concatenate(parts) if parts else np.zeros((0, self._context), np.int64)
        learned = tokens >= 0
        filled = np.where(learned, tokens, self._end_id)
        inputs = np.full_like(filled, self._end_id)
        inputs[:, 1:] = filled[:, :-1]
        unit_N = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        return UnitBatch(inputs, np.where(learned, filled, NOTHING), unit_N)

    def _rows_of(self, unit: int, random: np.random.Generator) -> NDArray[np.int64]:
        """The rows of one unit, filled up with -1."""
        records = self._by_unit[self._first[unit] : self._first[unit + 1]]
        if len(records) > self._most:
            records = random.choice(records, self._most, replace=False)
        stream = np.concatenate([self._piece(record, random) for record in records.tolist()])
        rows = np.full(-(-len(stream) // self._context) * self._context, -1, np.int64)
        rows[: len(stream)] = stream
        return rows.reshape(-1, self._context)

    def _piece(self, record: int, random: np.random.Generator) -> Tokens:
        start, length = int(self._start_R[record]), int(self._length_R[record])
        if length > self._context:
            start += int(random.integers(length - self._context + 1))
            length = self._context
        shard = int(self._shard_R[record])
        if self._cache is not None:
            return self._cache[shard][start : start + length]
        return self._shards[shard].read(start, start + length)
