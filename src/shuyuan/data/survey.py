"""The first pass over the records: what is needed to decide which to keep and where each belongs, and no more.

Legend: R records.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..progress import Progress, Stage
from ..recipe import Data, Recipe
from ..tasks import task_named
from ..vault import Store
from .duplicates import NEAR_LIMIT, Sketches, exact_repeats, forget_tables
from .labels import Labels
from .records import Record, Records
from .sources import Skipped
from .split import TRAIN, Lottery, by_owner, by_place
from .work import Sketching
from .workers import Workers

BATCH_CHARS = 1_000_000
_BATCH_RECORDS = 4096
HELD_BYTES = 128 * 1024 * 1024  # of records that are kept for the later passes; a larger source is read again


class Survey:
    """What one pass found out about every record.

    Args:
        records: the recipe's records.
        recipe: its seed draws the split, its `data` says which duplicates go.
        store: gives the key for the hashes of owners.
        progress: shows the bytes read.
        workers: sketch the records, for near duplicates.

    Attributes:
        split_R: 0 train, 1 validation, 2 test.
        kept_R: whether a record is neither an exact nor a near duplicate.
        owners_R: keyed hash of each record's owner.
        bytes_R: length of each record, clean and not yet masked, in bytes (of text, in UTF-8).
        chars_R: the same in characters; of images, in bytes again.
        skipped: records and files left out, by reason.
        duplicates: records removed, as "exact" and "near".
        changed: records that cleaning changed.
        labels: the labels in the order of their classes; none for a task without.
        label_sets: as of `labels.Settled`.
        labels_R: class of each record, for a task with labels.
    """

    def __init__(
        self, records: Records, recipe: Recipe, store: Store, progress: Progress, workers: Workers
    ) -> None:
        self._records = records
        self._data = recipe.data
        self._private = recipe.privacy is not None
        self._one_record = recipe.privacy is not None and recipe.privacy.unit == "record"
        self.skipped: Skipped = Counter()
        self.duplicates: dict[str, int] = {}
        near = recipe.data.duplicates == "near" and not records.contiguous and not recipe.images
        near = near and task_named(recipe.task).near_repeats
        self._sketches = Sketches() if near else None
        self._held: list[Any] | None = []
        self._held_bytes = 0
        notes = _Notes(Lottery(recipe.seed), store.derive_key("owners"), Labels(recipe.data.labels))
        with progress.stage("read the source", records.total_bytes, "bytes") as stage:
            for _, sketched in workers.map(Sketching(), self._noted(notes, stage)):
                if self._sketches is not None:
                    self._sketches.add(*sketched)
        self.changed = records.changed
        self.digests_R, self.owners_R = np.asarray(notes.digests), np.asarray(notes.owners)
        self.bytes_R, self.chars_R = np.asarray(notes.bytes), np.asarray(notes.chars)
        self.split_R = self._split(np.asarray(notes.draws), np.asarray(notes.parts))
        self.kept_R = self._keep(np.asarray(notes.parts), notes.labels, progress)
        settled = notes.labels.settle(self.kept_R, self.kept_R & (self.split_R == TRAIN))
        self.labels, self.label_sets, self.labels_R = settled.names, settled.sets, settled.class_R
        forget_tables()

    def _noted(self, notes: _Notes, stage: Stage) -> Iterator[tuple[None, list[str]]]:
        """Notes and holds all records, many at once, and gives the contents of those that are to be sketched."""
        given = 0
        for batch in _batches(self._records.each(self.skipped)):
            for record in batch:
                notes.add(record)
            self._hold(batch)
            wanted = batch[: max(0, NEAR_LIMIT - given)] if self._sketches is not None else []
            given += len(wanted)
            yield None, [str(record.content) for record in wanted]
            stage.advance(self._records.position - stage.done)

    def _hold(self, batch: list[Record]) -> None:
        if self._held is not None:
            self._held_bytes += sum(sys.getsizeof(record.content) for record in batch)
            self._held += [record.content for record in batch]
            if self._held_bytes > HELD_BYTES:
                self._held = None

    def _split(self, draws_R: NDArray[np.uint64], parts_R: NDArray[np.uint8]) -> NDArray[np.uint8]:
        validation, test = _shares(self._data)
        split_R = parts_R.copy()
        own_R = parts_R == TRAIN
        if self._records.contiguous:
            split_R[own_R] = by_place(self.bytes_R[own_R], validation, test)
        else:
            split_R[own_R] = by_owner(draws_R[own_R], validation, test)
        return split_R

    def _keep(self, parts_R: NDArray[np.uint8], labels: Labels, progress: Progress) -> NDArray[np.bool_]:
        """Removes what repeats an earlier record of its label; files given for holding out come first and are kept whole.

        In private training a record is compared with those of its own owner alone: whether one owner's record is kept must
        not depend on what others have.
        """
        count = len(parts_R)
        kept_R = np.ones(count, bool)
        if self._data.duplicates == "keep" or self._records.contiguous:
            return kept_R
        given_R = parts_R != TRAIN
        order = np.argsort(~given_R, kind="stable")
        among_R = self.owners_R if self._private else None
        if (
            self._one_record
        ):  # a record is compared with its equals alone: nearly alike ones would decide over each other
            among_R = self.owners_R + self.digests_R
        exact_R = exact_repeats(self.digests_R, order, among_R) & ~given_R
        self.duplicates["exact"] = int(exact_R.sum())
        kept_R &= ~exact_R
        if self._sketches is not None:
            if count > NEAR_LIMIT:
                progress.say(
                    "data.near-limit",
                    f"Near duplicates are looked for among the first {NEAR_LIMIT:,} records; the others are compared exactly.",
                )
            if labels.count:
                among_R = labels.spread() if among_R is None else among_R + labels.spread()
            near_R = np.zeros(count, bool)
            near_R[: self._sketches.count] = self._sketches.repeats(order[kept_R[order]], among_R)
            near_R &= ~given_R
            self.duplicates["near"] = int(near_R.sum())
            kept_R &= ~near_R
            self._sketches = None
        return kept_R

    def fingerprint(self, key: bytes) -> str:
        """Keyed digest of every record read, with its owner and its split, in order."""
        digest = hmac.new(key, digestmod="sha256")
        for array_R in (self.digests_R, self.owners_R, self.split_R):
            digest.update(array_R.tobytes())
        return digest.hexdigest()

    def contents(self, wanted_R: NDArray[np.bool_]) -> Iterator[tuple[int, Any]]:
        """(number, text or pixels) of the wanted records, from memory where they fit into it, else read again.

        Raises:
            DataError: the source is no longer what it was in the first pass.
        """
        again = (record.content for record in self._records.each(Counter()))
        number = -1
        for number, content in enumerate(again if self._held is None else self._held):
            if number >= len(wanted_R) or len(content) != self.chars_R[number]:
                raise changed_meanwhile()
            if wanted_R[number]:
                yield number, content
        if number + 1 != len(wanted_R):
            raise changed_meanwhile()


class _Notes:
    """What is written down of each record: 33 bytes (35 with a label), in arrays that numpy reads without a copy."""

    def __init__(self, lottery: Lottery, owner_key: bytes, labels: Labels) -> None:
        self._lottery, self._owner_key, self.labels = lottery, owner_key, labels
        self.digests, self.draws, self.owners = array("Q"), array("Q"), array("Q")
        self.bytes, self.chars, self.parts = array("I"), array("I"), array("B")

    def add(self, record: Record) -> None:
        encoded = record.content.encode() if isinstance(record.content, str) else record.content
        digest = hashlib.blake2b(_label_line(record) + encoded, digest_size=16).digest()
        if record.label is not None:
            self.labels.add(record.label, record.where)
        owner = b"record:" + digest if record.owner is None else named_owner(record.owner)
        self.digests.append(int.from_bytes(digest[:8], "little"))
        self.draws.append(self._lottery.draw(owner))
        self.owners.append(owner_hash(owner, self._owner_key))
        self.bytes.append(len(encoded))
        self.chars.append(len(record.content))
        self.parts.append(record.part)


def _label_line(record: Record) -> bytes:
    """What tells records of one content and two labels apart: a line before it, since no label holds a line end."""
    return b"" if record.label is None else f"{record.label}\n".encode()


def changed_meanwhile() -> DataError:
    """The error for a source that is written to while it is read."""
    return DataError(
        "data.changed-meanwhile",
        "The source changed while it was being read.",
        where="data.source",
        mend="Wait until nothing writes to it, or copy it, and run again.",
    )


def _shares(data: Data) -> tuple[float, float]:
    return tuple(share if isinstance(share, float) else 0.0 for share in (data.validation, data.test))  # type: ignore[return-value]


def named_owner(owner: bytes) -> bytes:
    """An owner that the source names, apart from records that are their own owners."""
    return b"owner:" + owner


def owner_hash(owner: bytes, key: bytes) -> int:
    """What stands in a shard for an owner: a number that only the run's key can compute.

    Args:
        owner: as `named_owner` gives it, or what tells a record that is its own owner.
        key: of the run, 32 bytes; 64 at most.

    Returns:
        64 bits, of keyed BLAKE2b (RFC 7693). Two owners of a million share one with a probability of 3e-8.
    """
    return int.from_bytes(hashlib.blake2b(owner, digest_size=8, key=key).digest(), "little")


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    chars = 0
    for record in records:
        batch.append(record)
        chars += len(record.content)
        if chars >= BATCH_CHARS or len(batch) >= _BATCH_RECORDS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch
