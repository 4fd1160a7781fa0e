"""The last pass: kept records become tokens, and tokens become shards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..progress import Progress
from ..recipe import Recipe
from ..vault import Store
from .canaries import Canaries, as_records, make_canaries
from .manifest import ShardFacts, Split
from .masking import Masker
from .shards import SHARD_BYTES, Tokens, token_type, write_shard
from .split import SPLITS, TRAIN
from .survey import Survey
from .tokenizer import Tokenizer

_BATCH_CHARS = 1_000_000  # encoded at once


class _SplitWriter:
    """Collects the tokens of one split and writes a shard whenever there are enough."""

    def __init__(self, store: Store, split: str, tokenizer: Tokenizer) -> None:
        self._store, self._split, self._tokenizer = store, split, tokenizer
        self._dtype = token_type(tokenizer.vocab_size)
        self._tokens: list[Tokens] = []
        self._lengths: list[NDArray[np.int64]] = []
        self._owners: list[NDArray[np.uint64]] = []
        self._labels: list[NDArray[np.uint16]] = []
        self._size = 0
        self._all_owners: list[NDArray[np.uint64]] = []
        self._text_bytes = 0
        self.shards: list[ShardFacts] = []

    def add(
        self, texts: list[str], owners: NDArray[np.uint64], labels: NDArray[np.uint16] | None = None
    ) -> None:
        ids, ends = self._tokenizer.encode_flat(texts)
        closed = np.insert(ids.astype(self._dtype), ends, self._tokenizer.end_id)
        self._tokens.append(closed)
        self._lengths.append(np.diff(ends, prepend=0) + 1)
        self._owners.append(owners)
        if labels is not None:
            self._labels.append(labels)
        self._text_bytes += sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
        self._size += closed.nbytes
        if self._size >= SHARD_BYTES:
            self._flush()

    def add_canaries(self, canaries: Canaries) -> None:
        """Writes the canaries that are included behind the records."""
        records, owners = as_records(canaries, self._tokenizer.end_id, self._tokenizer.vocab_size)
        if records:
            self._tokens.append(np.concatenate(records))
            self._lengths.append(np.array([len(record) for record in records]))
            self._owners.append(owners)

    def _flush(self) -> None:
        if not self._tokens:
            return
        name = f"data/{self._split}-{len(self.shards):05d}.shard"
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(self._lengths))]).astype(np.uint64)
        owners = np.concatenate(self._owners)
        tokens = np.concatenate(self._tokens)
        labels = np.concatenate(self._labels) if self._labels else None
        self.shards.append(write_shard(self._store, name, tokens, offsets, owners, labels))
        self._all_owners.append(np.unique(owners))
        self._tokens, self._lengths, self._owners, self._labels, self._size = [], [], [], [], 0

    def finish(self) -> Split:
        self._flush()
        return Split(
            records=sum(shard.records for shard in self.shards),
            owners=len(np.unique(np.concatenate(self._all_owners))) if self._all_owners else 0,
            tokens=sum(shard.tokens for shard in self.shards),
            text_bytes=self._text_bytes,
            shards=self.shards,
        )


def write_splits(
    recipe: Recipe, survey: Survey, tokenizer: Tokenizer, masker: Masker, store: Store, progress: Progress
) -> dict[str, Split]:
    """Masks and encodes every kept record and writes the shards of each split; plants the canaries that are asked for.

    Returns:
        What was written, by split: train, validation, and test where some record is in it.
    """
    names = [name for number, name in enumerate(SPLITS) if number < 2 or (survey.split_R == number).any()]
    writers = [_SplitWriter(store, name, tokenizer) for name in names]
    waiting: list[list[tuple[int, str]]] = [[] for _ in writers]
    chars = [0] * len(writers)
    with progress.stage("write shards", int(survey.bytes_R[survey.kept_R].sum()), "bytes") as stage:

        def pour(split: int) -> None:
            batch, waiting[split], chars[split] = waiting[split], [], 0
            numbers = [number for number, _ in batch]
            labels = survey.labels_R[numbers] if survey.labels else None
            writers[split].add([text for _, text in batch], survey.owners_R[numbers], labels)
            stage.advance(int(survey.bytes_R[numbers].sum()))

        for number, text in survey.texts(survey.kept_R):
            split = int(survey.split_R[number])
            waiting[split].append((number, masker(text)))
            chars[split] += len(text)
            if chars[split] >= _BATCH_CHARS:
                pour(split)
        for split in range(len(writers)):
            if waiting[split]:
                pour(split)
    if recipe.audit.canaries:
        count, context = recipe.audit.canaries, recipe.model.context
        canaries = make_canaries(count, tokenizer.vocab_size, tokenizer.end_id, context)
        canaries.save(store)
        writers[TRAIN].add_canaries(canaries)
    return {name: writer.finish() for name, writer in zip(names, writers, strict=True)}
