"""Windows of a split's token stream: which tokens a training step sees is a pure function of the step.

Legend: B windows of a batch, T tokens of a window.
"""

from __future__ import annotations

import hashlib
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..vault import Store
from .manifest import Manifest
from .shards import Shard, Tokens, token_type

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
ImageBatch = tuple[NDArray[np.uint8], NDArray[np.int64]]
AnyBatch = tuple[NDArray[np.integer[Any]], NDArray[np.int64]]
Got = TypeVar("Got", Batch, ImageBatch)

NOTHING = -100  # a target that is not learned: what PyTorch's cross entropy ignores
# A split up to this size is held in memory; the batches are the same either way.
CACHED_BYTES = 256 * 1024 * 1024
_ROUNDS = 8


class InOrder(ABC, Generic[Got]):
    """Things of a split that are numbered, as batches: each once in an epoch.

    Attributes:
        count: how many there are.
    """

    count: int

    @abstractmethod
    def at(self, numbers: NDArray[np.int64]) -> Got:
        """Those with these numbers: (inputs, targets).

        Args:
            numbers: of things, from 0 up to `count`, in any order; B of them.
        """

    def batch(self, step: int, batch_size: int, seed: int) -> Got:
        """The (inputs, targets) of a step; the same for the same data, step, batch size and seed.

        They come in a shuffled order, each once in an epoch; each epoch has its own order.

        Args:
            step: its number, from 0 on.
            batch_size: B.
            seed: start of the order.
        """
        return self.at(at_step(step, batch_size, self.count, seed))

    def in_order(self, batch_size: int) -> Iterator[Got]:
        """The whole split from its beginning, everything once; the last batch may be smaller.

        Args:
            batch_size: B of all batches but the last.
        """
        for start in range(0, self.count, batch_size):
            yield self.at(np.arange(start, min(start + batch_size, self.count), dtype=np.int64))


class Windows(InOrder[Batch]):
    """The records of a split one after another, each closed by the end token, cut into windows.

    An end token is thought before the first record, so that every token of the split is the target of exactly one window,
    also the first. The last window is filled up with end tokens, whose targets are `NOTHING`.

    Args:
        store: the run's files.
        manifest: what was prepared.
        split: "train", "validation" or "test".
        context: tokens of a window, T.

    Attributes:
        count: number of windows.
        tokens: number of tokens in the split, and so of targets.

    Raises:
        DataError: a shard is not one.
    """

    def __init__(self, store: Store, manifest: Manifest, split: str, context: int) -> None:
        self._store = store
        self._shards = manifest.splits[split].shards
        self._end_id = manifest.marks.end_id
        self._context = context
        self._dtype = token_type(manifest.vocab_size)
        self._starts = np.cumsum([0] + [shard.tokens for shard in self._shards])
        self.tokens = int(self._starts[-1])
        self.count = -(-self.tokens // context)
        self._open: dict[int, Shard] = {}
        self._files = ExitStack()
        self._cache: Tokens | None = None
        if self.tokens * np.dtype(self._dtype).itemsize <= CACHED_BYTES:
            self._cache = self._read(0, self.tokens)
            self._files.close()
            self._open.clear()
        else:
            weakref.finalize(self, self._files.close)

    def at(self, numbers: NDArray[np.int64]) -> Batch:
        """Some windows, by their numbers: (inputs_BT, targets_BT).

        Args:
            numbers: B of them, from 0 up to `count`, in any order.

        Returns:
            Both int64; a target is the token after its input, or `NOTHING` behind the split's end.

        Raises:
            DataError, VaultError: of a split that is not held in memory, a shard was cut or, in a sealed run, changed.
        """
        T = self._context
        starts = numbers * T
        rows_BT1 = np.full((len(numbers), T + 1), self._end_id, np.int64)
        if self._cache is None:
            for row, start in zip(rows_BT1, starts.tolist(), strict=True):
                stop = min(start + T, self.tokens)
                first = max(start - 1, 0)
                row[first - start + 1 : stop - start + 1] = self._read(first, stop)
        else:
            place_BT1 = starts[:, None] + np.arange(-1, T)
            inside = (place_BT1 >= 0) & (place_BT1 < self.tokens)
            rows_BT1[inside] = self._cache[place_BT1[inside]]
        targets_BT = rows_BT1[:, 1:].copy()
        targets_BT[starts[:, None] + np.arange(T) >= self.tokens] = NOTHING
        return rows_BT1[:, :-1].copy(), targets_BT

    def _read(self, start: int, stop: int) -> Tokens:
        """Tokens of the whole split from `start` up to `stop`, over as many shards as they lie in."""
        tokens: Tokens = np.empty(stop - start, self._dtype)
        number = int(np.searchsorted(self._starts, start, side="right")) - 1
        at = start
        while at < stop:
            begin, end = int(self._starts[number]), int(self._starts[number + 1])
            last = min(stop, end)
            tokens[at - start : last - start] = self._shard(number).read(at - begin, last - begin)
            at, number = last, number + 1
        return tokens

    def _shard(self, number: int) -> Shard:
        if number not in self._open:
            name = self._shards[number].name
            self._open[number] = Shard(self._files.enter_context(self._store.open(name)), name)
        return self._open[number]


class Sliding(Windows):
    """Windows that end at every token of the split, each with the token after it as its only target.

    What a model that predicts one token of a window learns from. The window before a token near the split's beginning is
    filled up in front with end tokens.

    Args:
        store, manifest, split, context: as of `Windows`.

    Attributes:
        stride: `in_order` passes over all but every so manieth; 1 at first.
    """

    def __init__(self, store: Store, manifest: Manifest, split: str, context: int) -> None:
        super().__init__(store, manifest, split, context)
        self.count = self.tokens
        self.stride = 1

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Windows from the beginning, one for every `stride` tokens; the last batch may be smaller.

        Args:
            batch_size: B of all batches but the last.
        """
        chosen = np.arange(0, self.count, self.stride, dtype=np.int64)
        for start in range(0, len(chosen), batch_size):
            yield self.at(chosen[start : start + batch_size])

    def at(self, numbers: NDArray[np.int64]) -> Batch:
        """Some windows, by their numbers: (inputs_BT, targets_B1).

        Args:
            numbers: of the tokens that are targets, B of them, from 0 up to `count`, in any order.
        """
        T = self._context
        rows_BT1 = np.full((len(numbers), T + 1), self._end_id, np.int64)
        for row, last in zip(rows_BT1, numbers.tolist(), strict=True):
            tokens = (
                self._read(max(0, last - T), last + 1)
                if self._cache is None
                else self._cache[max(0, last - T) : last + 1]
            )
            row[T + 1 - len(tokens) :] = tokens
        return rows_BT1[:, :-1].copy(), rows_BT1[:, -1:].copy()


def at_step(step: int, batch_size: int, count: int, seed: int) -> NDArray[np.int64]:
    """Which of `count` things a step sees: in a shuffled order, each once in an epoch, in each epoch another order.

    Args:
        step: its number, from 0 on.
        batch_size: how many it sees.
        count: how many things there are.
        seed: start of the orders.

    Returns:
        (batch_size,): numbers of things, from 0 up to `count`. A step may lie in two epochs, and a batch of more than `count` in several.
    """
    place = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epoch, place = np.divmod(place, count)
    things = np.empty_like(place)
    for number in np.unique(epoch):
        inside = epoch == number
        things[inside] = shuffled(place[inside], count, seed, int(number))
    return things


def shuffled(place: NDArray[np.int64], count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Where each place of 0 … count - 1 goes in this epoch's order: a permutation, computed without holding it.

    A Feistel network over the next power of four, walked until the result is below `count` (Black and Rogaway, "Ciphers
    with arbitrary finite domains", CT-RSA 2002).

    Args:
        place: (N,), each from 0 up to `count`.
        count: length of the order.
        seed: start of all orders.
        epoch: number of this one.
    """
    half = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    digest = hashlib.blake2b(f"{seed}:{epoch}".encode(), digest_size=64, person=b"epoch order").digest()
    keys = np.frombuffer(digest, np.uint64)[:_ROUNDS]
    out = place.astype(np.uint64)
    walking = np.ones(len(out), bool)
    while walking.any():
        left, right = out[walking] >> half, out[walking] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right ^ key) & mask)
        out[walking] = (left << half) | right
        walking[walking] = out[walking] >= count
    return out.astype(np.int64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
