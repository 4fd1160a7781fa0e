"""The records of a split as they stand in its shards, each read on its own.

Legend: R records of the split, B some of them, K labels, S sets of labels.
"""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..vault import Store
from .batches import CACHED_BYTES
from .manifest import Manifest
from .shards import Shard, Tokens, token_type


class StoredRecords:
    """The records of one split.

    Args:
        store: the run's files.
        manifest: what was prepared.
        split: "train", "validation" or "test".

    Attributes:
        length_R: tokens of each record, its end token among them; of images, bytes of pixels.
        owners_R: keyed hash of each record's owner.
        labels_R: class of each record; none for a task without labels.
        counts: records of each label.
        count: R.

    Raises:
        DataError: a shard is not one.
    """

    def __init__(self, store: Store, manifest: Manifest, split: str) -> None:
        files = ExitStack()
        weakref.finalize(self, files.close)
        facts = manifest.splits[split]
        self._shards = [Shard(files.enter_context(store.open(each.name)), each.name) for each in facts.shards]
        token_bytes = np.dtype(token_type(manifest.vocab_size)).itemsize
        size = facts.tokens * (manifest.image.bytes if manifest.image else token_bytes)
        self._held = size <= CACHED_BYTES
        offsets = [shard.offsets(manifest.image).astype(np.int64) for shard in self._shards]
        self._start_R = np.concatenate([places[:-1] for places in offsets])
        self._shard_R = np.repeat(np.arange(len(offsets)), [len(places) - 1 for places in offsets])
        self.length_R = np.concatenate([np.diff(places) for places in offsets])
        self.count = len(self.length_R)
        self.owners_R = np.concatenate([shard.owners() for shard in self._shards])
        self._classes = classes = len(manifest.label_sets) or len(manifest.labels)
        self._sets_SK = _sets(manifest)
        self.labels_R = np.concatenate(
            [shard.labels(classes) if classes else np.zeros(0, np.uint16) for shard in self._shards]
        )

    @property
    def counts(self) -> list[int]:
        counts: NDArray[np.int64] = np.bincount(self.labels_R, minlength=self._classes)
        told: list[int] = (counts if self._sets_SK is None else counts @ self._sets_SK).tolist()
        return told

    def targets(self, numbers: NDArray[np.int64] | list[int]) -> NDArray[np.int64]:
        """What is learned of some records: the class of each (B, 1); where it may have any number of labels, a one for each that it
        has and a zero for each other (B, 1, K).

        Args:
            numbers: of records, B of them.
        """
        class_B = self.labels_R[numbers]
        found_B = class_B if self._sets_SK is None else self._sets_SK[class_B]
        return found_B[:, None].astype(np.int64)

    @cached_property
    def _cache(self) -> list[Tokens]:
        return [shard.read(0, shard.tokens) for shard in self._shards]

    @cached_property
    def _roles(self) -> list[NDArray[np.uint8]]:
        return [shard.roles() for shard in self._shards]

    def starts(self, bit: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(record, start, stop) of each stretch that begins with a token whose role has that bit, over all records.

        Args:
            bit: one of those in `prompts`: FIRST for rows, BEGINS for pieces.

        Returns:
            Three times (N,): the number of the record, and places in it; `stop` is where the next stretch begins, or where the shard ends.
        """
        records, starts, stops, before = [], [], [], 0
        for shard, roles in zip(self._shards, self._roles, strict=True):
            offsets = shard.offsets().astype(np.int64)
            first = np.flatnonzero(roles & bit)
            record = np.searchsorted(offsets, first, side="right") - 1
            records.append(record + before)
            starts.append(first - offsets[record])
            stops.append(np.append(first[1:], shard.tokens) - offsets[record])
            before += shard.records
        return np.concatenate(records), np.concatenate(starts), np.concatenate(stops)

    def roles(self, record: int, start: int, stop: int) -> NDArray[np.uint8]:
        """What the tokens of a record from `start` up to `stop` are for, in a task with prompts.

        Args:
            record: its number, from 0 up to `count`.
            start, stop: places in it, in tokens.

        Returns:
            (stop - start,): bits as in `prompts`.
        """
        begin, shard = int(self._start_R[record]), int(self._shard_R[record])
        return self._roles[shard][begin + start : begin + stop]

    def read(self, record: int, start: int, stop: int) -> Tokens:
        """Tokens or pixels of a record from `start` up to `stop`.

        Args:
            record: its number, from 0 up to `count`.
            start, stop: places in it: tokens, or of an image bytes of pixels.
        """
        begin, shard = int(self._start_R[record]), int(self._shard_R[record])
        if self._held:
            return self._cache[shard][begin + start : begin + stop]
        return self._shards[shard].read(begin + start, begin + stop)


def _sets(manifest: Manifest) -> NDArray[np.uint8] | None:
    """Of each set of labels (S, K) which it holds; None where a record has one label, or none."""
    if not manifest.label_sets:
        return None
    sets_SK = np.zeros((len(manifest.label_sets), len(manifest.labels)), np.uint8)
    for row_K, numbers in zip(sets_SK, manifest.label_sets, strict=True):
        row_K[numbers] = 1
    return sets_SK
