"""The last pass: kept records become tokens or pixels, and these become shards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..progress import Progress
from ..recipe import Recipe
from ..tasks import Example, task_named
from ..tasks.packing import in_texts, unpacked
from ..vault import Store
from .canaries import Canaries, as_records, make_canaries
from .manifest import ShardFacts, Split
from .masking import Masker
from .prompts import Laid, laid_out
from .rows import WIDTHS
from .shards import SHARD_BYTES, token_type, write_image_shard, write_shard
from .split import SPLITS, TRAIN
from .survey import Survey
from .tokenizer import Tokenizer

_BATCH_SIZE = 1_000_000  # characters encoded at once, or bytes of pixels


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
        widths = [self._widths[width] for width in range(1, max(self._widths, default=0) + 1)]
        return replace(facts, rows=self._rows, learned=self._learned, widths=widths)


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


def write_texts(
    recipe: Recipe, survey: Survey, tokenizer: Tokenizer, masker: Masker, store: Store, progress: Progress
) -> dict[str, Split]:
    """Masks and encodes every kept record and writes the shards of each split; plants the canaries that are asked for.

    Returns:
        What was written, by split: train, validation, and test where some record is in it.
    """
    if task_named(recipe.task).prompted:
        return _write_prompts(recipe, survey, tokenizer, masker, store, progress)
    writers = {name: TextWriter(store, name, tokenizer) for name in _splits(survey)}
    _pour(survey, writers, masker, progress)
    if recipe.audit.canaries:
        count, context = recipe.audit.canaries, recipe.model.context
        canaries = make_canaries(count, tokenizer.vocab_size, tokenizer.end_id, context)
        canaries.save(store)
        writers[SPLITS[TRAIN]].add_canaries(canaries)
    return {name: writer.finish() for name, writer in writers.items()}


def _write_prompts(
    recipe: Recipe, survey: Survey, tokenizer: Tokenizer, masker: Masker, store: Store, progress: Progress
) -> dict[str, Split]:
    """The same of records with prompts; those that do not fit are counted among what the survey skipped."""
    context = recipe.model.context
    writers = {name: PromptWriter(store, name, tokenizer, context) for name in _splits(survey)}
    _pour(survey, writers, partial(in_texts, masker), progress)
    if left_out := sum(writer.left_out for writer in writers.values()):
        survey.skipped[f"records whose answer does not fit model.context = {context:,}"] += left_out
    splits = {name: writer.finish() for name, writer in writers.items()}
    if shortened := sum(writer.shortened for writer in writers.values()):
        progress.say(
            "data.shortened",
            f"{shortened:,} of {sum(split.rows for split in splits.values()):,} prompts are longer than model.context = {context:,} "
            "and are shortened; their answers are whole.",
        )
    return splits


def write_images(survey: Survey, store: Store, progress: Progress) -> dict[str, Split]:
    """Writes the shards of each split of images; returns as `write_texts`."""
    writers = {name: ImageWriter(store, name) for name in _splits(survey)}
    _pour(survey, writers, lambda pixels: pixels, progress)
    return {name: writer.finish() for name, writer in writers.items()}


def _splits(survey: Survey) -> list[str]:
    return [name for number, name in enumerate(SPLITS) if number < 2 or (survey.split_R == number).any()]


def _pour(
    survey: Survey,
    writers: Mapping[str, SplitWriter],
    prepared: Callable[[Any], Any],
    progress: Progress,
) -> None:
    """Gives every kept record to the writer of its split, many at once."""
    waiting: dict[str, list[tuple[int, Any]]] = {name: [] for name in writers}
    size = dict.fromkeys(writers, 0)
    with progress.stage("write shards", int(survey.bytes_R[survey.kept_R].sum()), "bytes") as stage:

        def write(name: str) -> None:
            batch, waiting[name], size[name] = waiting[name], [], 0
            numbers = [number for number, _ in batch]
            labels = survey.labels_R[numbers] if survey.labels else None
            writers[name].add([content for _, content in batch], survey.owners_R[numbers], labels)
            stage.advance(int(survey.bytes_R[numbers].sum()))

        for number, content in survey.contents(survey.kept_R):
            name = SPLITS[survey.split_R[number]]
            waiting[name].append((number, prepared(content)))
            size[name] += len(content)
            if size[name] >= _BATCH_SIZE:
                write(name)
        for name in writers:
            if waiting[name]:
                write(name)
