"""Windows: every token is a target exactly once an epoch, and a batch is a pure function of its step."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.data import NOTHING, Manifest, Sliding, Split, TokenizerFacts, Windows, batches, open_split
from shuyuan.data.batches import shuffled
from shuyuan.data.shards import write_shard
from shuyuan.vault import OpenStore

END = 60_000


def split_of(folder: Path, sizes: list[int]) -> tuple[OpenStore, Manifest]:
    """A split whose tokens are 0, 1, 2, … in shards of these sizes."""
    store = OpenStore(folder)
    shards, at = [], 0
    for number, size in enumerate(sizes):
        tokens = np.arange(at, at + size, dtype=np.uint16)
        offsets, owners = np.array([0, size], np.uint64), np.array([number], np.uint64)
        shards.append(write_shard(store, f"data/train-{number:05d}.shard", tokens, offsets, owners))
        at += size
    split = Split(len(sizes), len(sizes), at, at, shards)
    return store, Manifest({"train": split}, END + 1, TokenizerFacts("byte", "", END))


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(
    ("sizes", "context"), [([100, 3, 57], 16), ([64], 16), ([1, 1, 1], 2), ([5], 8), ([33], 1)]
)
def test_every_target_once_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int], context: int, cached: bool
) -> None:
    monkeypatch.setattr(batches, "CACHED_BYTES", 1 << 20 if cached else 0)
    store, manifest = split_of(tmp_path, sizes)
    windows = Windows(store, manifest, "train", context)
    assert windows.tokens == sum(sizes)
    assert windows.count == -(-sum(sizes) // context)
    seen: list[int] = []
    rows = 0
    for inputs, targets in windows.in_order(3):
        assert inputs.dtype == targets.dtype == np.int64
        assert inputs.shape == targets.shape
        assert inputs.shape[1] == context
        rows += len(inputs)
        learned = targets != NOTHING
        seen += targets[learned].tolist()
        before = np.where(
            targets == 0, END, targets - 1
        )  # what stands before a target: the end token before the first
        assert (inputs[learned] == before[learned]).all()
        assert (inputs[:, 1:][~learned[:, :-1]] == END).all()
    assert seen == list(range(sum(sizes)))
    assert rows == windows.count


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(1, 20),
    st.integers(1, 7),
    st.integers(0, 2**63 - 1),
)
def test_every_window_once_an_epoch(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], context: int, batch: int, seed: int
) -> None:
    store, manifest = split_of(tmp_path_factory.mktemp("run"), sizes)
    windows = Windows(store, manifest, "train", context)
    steps = -(-2 * windows.count // batch)
    targets = np.concatenate([windows.batch(step, batch, seed)[1] for step in range(steps)])[
        : 2 * windows.count
    ]
    for epoch in (targets[: windows.count], targets[windows.count :]):
        assert sorted(epoch[epoch != NOTHING].tolist()) == list(range(sum(sizes)))


def test_a_batch_is_pure_and_the_cache_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, manifest = split_of(tmp_path, [500, 31, 800])
    cached = Windows(store, manifest, "train", 24)
    monkeypatch.setattr(batches, "CACHED_BYTES", 0)
    read = Windows(store, manifest, "train", 24)
    assert cached._cache is not None
    assert read._cache is None
    for step in (5, 0, 123, 5):
        first, second = cached.batch(step, 6, seed=3), read.batch(step, 6, seed=3)
        for one, other in zip(first, second, strict=True):
            assert (one == other).all()
    assert not (cached.batch(0, 6, seed=3)[0] == cached.batch(0, 6, seed=4)[0]).all()
    orders = [cached.batch(epoch, cached.count, seed=3)[0][:, 1].tolist() for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


def test_files_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, manifest = split_of(tmp_path, [500, 31])
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("counts open files through /proc")
    before = len(os.listdir(descriptors))  # noqa: PTH208
    kept = Windows(store, manifest, "train", 24)
    assert len(os.listdir(descriptors)) == before  # noqa: PTH208
    monkeypatch.setattr(batches, "CACHED_BYTES", 0)
    windows = Windows(store, manifest, "train", 24)
    windows.batch(0, 30, 0)
    del windows, kept
    gc.collect()
    assert len(os.listdir(descriptors)) == before  # noqa: PTH208


@given(st.integers(1, 5000), st.integers(0, 2**63 - 1), st.integers(0, 5))
def test_shuffled_is_a_permutation(count: int, seed: int, epoch: int) -> None:
    places = np.arange(count)
    order = shuffled(places, count, seed, epoch)
    assert sorted(order.tolist()) == places.tolist()
    some = places[:: max(1, count // 7)]
    assert (shuffled(some, count, seed, epoch) == order[some]).all()


def test_shuffled_looks_random() -> None:
    order = shuffled(np.arange(100_000), 100_000, 1, 0)
    assert abs(np.corrcoef(order, np.arange(100_000))[0, 1]) < 0.02
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    assert (np.diff(order) == 1).sum() < 20
    low = np.bincount(order[:10_000] // 1000, minlength=100)
    assert low.min() > 50
    assert low.max() < 160


def test_the_order_is_kept_for_good() -> None:
    """A resumed run of an older version must see the same windows: these numbers may never change."""
    assert shuffled(np.arange(10), 10, 1, 0).tolist() == GOLDEN


GOLDEN = [2, 5, 0, 7, 8, 3, 6, 4, 1, 9]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(("sizes", "context"), [([100, 3, 57], 16), ([5], 8), ([1, 1, 1], 2), ([33], 1)])
def test_a_window_ends_at_every_token_and_has_the_next_as_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int], context: int, cached: bool
) -> None:
    monkeypatch.setattr(batches, "CACHED_BYTES", 1 << 20 if cached else 0)
    store, manifest = split_of(tmp_path, sizes)
    windows = open_split(store, manifest, "train", context, last=True)
    assert isinstance(windows, Sliding) and windows.count == windows.tokens == sum(sizes)
    seen: list[int] = []
    for inputs, targets in windows.in_order(7):
        assert inputs.shape == (len(targets), context) and targets.shape[1] == 1
        for row, target in zip(inputs.tolist(), targets[:, 0].tolist(), strict=True):
            before = [*[END] * context, *range(target)][-context:]
            assert row == before
        seen += targets[:, 0].tolist()
    assert seen == list(range(sum(sizes)))
    windows.stride = 4
    spread = np.concatenate([targets[:, 0] for _, targets in windows.in_order(7)])
    assert spread.tolist() == list(range(0, sum(sizes), 4))
    assert np.array_equal(windows.batch(3, 4, 1)[1], windows.batch(3, 4, 1)[1])
