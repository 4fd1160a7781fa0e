"""Writers of shards: they collect the kept records of a split as tokens or pixels, and write whenever there are enough."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tasks import Example
from ..tasks.packing import unpacked
from ..vault import Store
from .canaries import Canaries, as_records
from .manifest import Pair, ShardFacts, Split
from .pairs import Asked, longest_question, paired, windows
from .prompts import BEGINS, FIRST, LEARNED, OWN, Laid, laid_out
from .rows import WIDTHS
from .shards import SHARD_BYTES, token_type, write_image_shard, write_shard
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
        self._text_bytes = 0
        self.shards: list[ShardFacts] = []

    def add(
        self, contents: list[Any], owners: NDArray[np.uint64], labels: NDArray[np.uint16] | None = None
    ) -> None:
        body = self._body(contents)
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
            text_bytes=self._text_bytes,
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
    def _body(self, contents: list[Any]) -> NDArray[Any]:
        """What a shard holds of some records, one after another."""

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
    """Writes texts as tokens, each record closed by the end token."""

    def __init__(self, store: Store, split: str, tokenizer: Tokenizer) -> None:
        super().__init__(store, split)
        self._tokenizer = tokenizer
        self._dtype = token_type(tokenizer.vocab_size)
        self._lengths: list[NDArray[np.int64]] = []

    def _body(self, contents: list[Any]) -> NDArray[Any]:
        ids, ends = self._tokenizer.encode_flat(contents)
        self._lengths.append(np.diff(ends, prepend=0) + 1)
        self._text_bytes += sum(len(text) if text.isascii() else len(text.encode()) for text in contents)
        return np.insert(ids.astype(self._dtype), ends, self._tokenizer.end_id)

    def add_canaries(self, canaries: Canaries) -> None:
        """Writes the canaries that are included behind the records."""
        records, owners = as_records(canaries, self._tokenizer.end_id, self._tokenizer.vocab_size)
        if records:
            self._bodies.append(np.concatenate(records))
            self._lengths.append(np.array([len(record) for record in records]))
            self._owners.append(owners)

    def _write(
        self,
        name: str,
        body: NDArray[Any],
        owners: NDArray[np.uint64],
        labels: NDArray[np.uint16] | None,
    ) -> ShardFacts:
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(self._lengths))]).astype(np.uint64)
        self._lengths = []
        return write_shard(self._store, name, body, offsets, owners, labels, self._shard_roles())

    def _shard_roles(self) -> NDArray[np.uint8] | None:
        """What each token of the shard is for, in a task with prompts."""
        return None


class PromptWriter(TextWriter):
    """Writes records with prompts: the rows of each one after another, with what each token is for.

    Args:
        store: the run's files.
        split: its name.
        tokenizer: of the run.
        context: tokens that the model sees at once.

    Attributes:
        left_out: records whose answer alone does not fit.
        shortened: rows of which something was left out so that they fit.
    """

    def __init__(self, store: Store, split: str, tokenizer: Tokenizer, context: int) -> None:
        super().__init__(store, split, tokenizer)
        self._context = context
        self._roles: list[NDArray[np.uint8]] = []
        self._rows = self._learned = 0
        self._widths: Counter[int] = Counter()
        self.left_out = self.shortened = 0

    def add(
        self, contents: list[str], owners: NDArray[np.uint64], labels: NDArray[np.uint16] | None = None
    ) -> None:
        records = [unpacked(content) for content in contents]
        rows = iter(laid_out([row for rows in records for row in rows], self._tokenizer, self._context + 1))
        laid = [[next(rows) for _ in record] for record in records]
        fits = np.array([all(row is not None for row in record) for record in laid], bool)
        self.left_out += int((~fits).sum())
        whole = [[row for row in record if row is not None] for record in laid]
        kept = [record for record, fit in zip(whole, fits, strict=True) if fit]
        answers = [record for record, fit in zip(records, fits, strict=True) if fit]
        self._text_bytes += sum(map(answer_bytes, answers))
        if kept:
            super().add(kept, owners[fits])

    def _body(self, contents: list[list[Laid]]) -> NDArray[Any]:
        rows = [row for record in contents for row in record]
        self._rows += len(rows)
        self.shortened += sum(row.shortened for row in rows)
        self._learned += sum(row.learned for row in rows)
        self._widths.update(-(-(len(row.ids) - 1) // WIDTHS) for row in rows)
        self._lengths.append(np.array([sum(len(row.ids) for row in record) for record in contents]))
        self._roles.append(np.concatenate([np.array(row.roles, np.uint8) for row in rows]))
        return np.concatenate([np.array(row.ids, self._dtype) for row in rows])

    def _shard_roles(self) -> NDArray[np.uint8]:
        roles, self._roles = np.concatenate(self._roles), []
        return roles

    def finish(self) -> Split:
        facts = super().finish()
        return replace(facts, rows=self._rows, learned=self._learned, widths=_listed(self._widths))


class PairWriter(TextWriter):
    """Writes questions and texts, each record once: the windows that a model looks into are cut when they are read.

    Args:
        store: the run's files.
        split: its name.
        tokenizer: of the run.
        around: the special tokens of a row.
        context: tokens of a row at most.

    Attributes:
        left_out: records that cannot be learned, by reason.
        cut: questions that are longer than a row has room for.
    """

    def __init__(self, store: Store, split: str, tokenizer: Tokenizer, around: Pair, context: int) -> None:
        super().__init__(store, split, tokenizer)
        self._around, self._context = around, context
        self._roles: list[NDArray[np.uint8]] = []
        self._rows = self.cut = 0
        self._widths: Counter[int] = Counter()
        self.left_out: Counter[str] = Counter()

    def add(
        self, contents: list[str], owners: NDArray[np.uint64], labels: NDArray[np.uint16] | None = None
    ) -> None:
        examples = [unpacked(content)[0] for content in contents]
        found = [self._fitting(asked) for asked in paired(examples, self._tokenizer)]
        self.left_out.update(why for why in found if isinstance(why, str))
        fits = np.array([isinstance(asked, Asked) for asked in found], bool)
        self._text_bytes += sum(
            answer_bytes([example]) for example, fit in zip(examples, fits, strict=True) if fit
        )
        if fits.any():
            super().add([asked for asked in found if isinstance(asked, Asked)], owners[fits])

    def _fitting(self, asked: Asked | str) -> Asked | str:
        """The same, unless its answer is so long that every window cuts it."""
        if isinstance(asked, str):
            return asked
        rows = windows(asked, self._around, self._context)
        if asked.answer is not None and not any(row.holds(asked.answer) for row in rows):
            return f"records whose answer does not fit model.context = {self._context:,}"
        self._rows += len(rows)
        self._widths.update(-(-len(row.ids) // WIDTHS) for row in rows)
        self.cut += len(asked.question) > longest_question(self._around, self._context)
        return asked

    def _body(self, contents: list[Asked]) -> NDArray[Any]:
        self._lengths.append(np.array([len(asked.question) + len(asked.text) for asked in contents]))
        self._roles += [_roles_of(asked) for asked in contents]
        return np.concatenate([np.array(asked.question + asked.text, self._dtype) for asked in contents])

    def _shard_roles(self) -> NDArray[np.uint8]:
        roles, self._roles = np.concatenate(self._roles), []
        return roles

    def finish(self) -> Split:
        facts = super().finish()
        return replace(facts, rows=self._rows, learned=2 * self._rows, widths=_listed(self._widths))


def _roles_of(asked: Asked) -> NDArray[np.uint8]:
    border = len(asked.question)
    roles = np.full(border + len(asked.text), OWN, np.uint8)
    roles[[0, border]] |= BEGINS
    roles[0] |= FIRST
    if asked.answer is not None:
        roles[border + asked.answer[0] : border + asked.answer[1]] |= LEARNED
    return roles


def _listed(widths: Counter[int]) -> list[int]:
    """Rows of each width, as a split has them."""
    return [widths[width] for width in range(1, max(widths, default=0) + 1)]


def answer_bytes(examples: list[Example]) -> int:
    """Of what is learned of a record's own text, in UTF-8."""
    learned = (piece.text for each in examples for piece in each.pieces if piece.learn)
    return sum(len(text.encode()) for text in learned)


class ImageWriter(SplitWriter):
    """Writes images as their pixels."""

    def _body(self, contents: list[bytes]) -> NDArray[np.uint8]:
        return np.frombuffer(b"".join(contents), np.uint8)

    def _write(
        self,
        name: str,
        body: NDArray[Any],
        owners: NDArray[np.uint64],
        labels: NDArray[np.uint16] | None,
    ) -> ShardFacts:
        assert labels is not None  # every task of images has them
        return write_image_shard(self._store, name, body, owners, labels)
