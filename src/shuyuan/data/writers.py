"""Writers of shards: they collect the kept records of a split as tokens or pixels, and write whenever there are enough."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..vault import Store
from .canaries import Canaries, as_records
from .encoding import Encoded
from .manifest import ShardFacts, Split
from .shards import SHARD_BYTES, write_image_shard, write_shard
from .tokenizer import Tokenizer


class SplitWriter(ABC):
    """Collects the records of one split and writes a shard whenever there are enough."""

    def __init__(self, store: Store, split: str) -> None:
        self._store, self._split = store, split
        self._bodies: list[NDArray[Any]] = []  # tokens or pixels
        self._owners: list[NDArray[np.uint64]] = []
        self._labels: list[NDArray[np.uint16]] = []
        self._size = 0
        self._all_owners: list[NDArray[np.uint64]] = []
        self.shards: list[ShardFacts] = []

    def _collect(
        self, body: NDArray[Any], owners: NDArray[np.uint64], labels: NDArray[np.uint16] | None
    ) -> None:
        self._bodies.append(body)
        self._owners.append(owners)
        if labels is not None:
            self._labels.append(labels)
        self._size += body.nbytes
        if self._size >= SHARD_BYTES:
            self._flush()

    def finish(self) -> Split:
        self._flush()
        return Split(
            records=sum(shard.records for shard in self.shards),
            owners=len(np.unique(np.concatenate(self._all_owners))) if self._all_owners else 0,
            tokens=sum(shard.tokens for shard in self.shards),
            text_bytes=0,
            shards=self.shards,
        )

    def _flush(self) -> None:
        if not self._bodies:
            return
        name = f"data/{self._split}-{len(self.shards):05d}.shard"
        owners = np.concatenate(self._owners)
        labels = np.concatenate(self._labels) if self._labels else None
        self.shards.append(self._write(name, np.concatenate(self._bodies), owners, labels))
        self._all_owners.append(np.unique(owners))
        self._bodies, self._owners, self._labels, self._size = [], [], [], 0

    @abstractmethod
    def _write(
        self,
        name: str,
        body: NDArray[Any],
        owners: NDArray[np.uint64],
        labels: NDArray[np.uint16] | None,
    ) -> ShardFacts:
        """Writes the shard of what was collected."""


class TextWriter(SplitWriter):
    """Writes records as tokens.

    Args:
        store: the run's files.
        split: its name.
        prompted: whether they are prompts with answers, in rows of their own.

    Attributes:
        masked, left_out, shortened: as of `Encoded`, of all that was added.
    """

    def __init__(self, store: Store, split: str, *, prompted: bool) -> None:
        super().__init__(store, split)
        self._prompted = prompted
        self._lengths: list[NDArray[np.int64]] = []
        self._roles: list[NDArray[np.uint8]] = []
        self._widths: Counter[int] = Counter()
        self._text_bytes = self._learned = self.shortened = 0
        self.masked: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def add(
        self, encoded: Encoded, owners: NDArray[np.uint64], labels: NDArray[np.uint16] | None = None
    ) -> None:
        """Adds records with the owners and labels of all that were to be encoded."""
        self.masked.update(encoded.masked)
        self.left_out.update(encoded.left_out)
        self._widths.update(dict(enumerate(encoded.widths)))
        self._text_bytes += encoded.text_bytes
        self._learned += encoded.learned
        self.shortened += encoded.shortened
        if not encoded.fits.any():
            return
        self._lengths.append(encoded.lengths)
        if encoded.roles is not None:
            self._roles.append(encoded.roles)
        self._collect(encoded.tokens, owners[encoded.fits], None if labels is None else labels[encoded.fits])

    def add_canaries(self, canaries: Canaries, tokenizer: Tokenizer) -> None:
        """Writes the canaries that are included behind the records."""
        records, owners = as_records(canaries, tokenizer.end_id, tokenizer.vocab_size)
        if records:
            self._lengths.append(np.array([len(record) for record in records]))
            self._collect(np.concatenate(records), owners, None)

    def _write(
        self,
        name: str,
        body: NDArray[Any],
        owners: NDArray[np.uint64],
        labels: NDArray[np.uint16] | None,
    ) -> ShardFacts:
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(self._lengths))]).astype(np.uint64)
        roles = np.concatenate(self._roles) if self._prompted else None
        self._lengths, self._roles = [], []
        return write_shard(self._store, name, body, offsets, owners, labels, roles)

    def finish(self) -> Split:
        facts = replace(super().finish(), text_bytes=self._text_bytes)
        if not self._prompted:
            return facts
        widths = [self._widths[width] for width in range(1, max(self._widths, default=0) + 1)]
        return replace(facts, rows=self._widths.total(), learned=self._learned, widths=widths)


class ImageWriter(SplitWriter):
    """Writes images as their pixels."""

    def add(
        self, images: list[bytes], owners: NDArray[np.uint64], labels: NDArray[np.uint16] | None = None
    ) -> None:
        self._collect(np.frombuffer(b"".join(images), np.uint8), owners, labels)

    def _write(
        self,
        name: str,
        body: NDArray[Any],
        owners: NDArray[np.uint64],
        labels: NDArray[np.uint16] | None,
    ) -> ShardFacts:
        assert labels is not None  # every task of images has them
        return write_image_shard(self._store, name, body, owners, labels)
