"""Rows: every labelled record exactly once an epoch, opened, cut, closed and filled up as is written."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.data import (
    FILL,
    Manifest,
    Rows,
    Split,
    TokenizerFacts,
    UnitRows,
    Windows,
    byte_tokenizer,
    open_split,
    row_of,
    stored,
)
from shuyuan.data.shards import write_shard
from shuyuan.vault import OpenStore

END, START = 60_000, 60_001
CLASSES = 3


class Made(NamedTuple):
    """A labelled split: record n holds the tokens n, n, n, … and has the class n % 3 and the owner n // 2."""

    store: OpenStore
    manifest: Manifest
    lengths: list[int]


def made(folder: Path, lengths: list[int], start_id: int | None = START, shards: int = 2) -> Made:
    store, written, at = OpenStore(folder), [], 0
    for number, part in enumerate(np.array_split(np.array(lengths), min(shards, len(lengths)))):
        records = np.arange(at, at + len(part))
        tokens = np.concatenate([[record] * size + [END] for record, size in zip(records, part, strict=True)])
        offsets = np.concatenate([[0], np.cumsum(part + 1)]).astype(np.uint64)
        name = f"data/train-{number:05d}.shard"
        labels = (records % CLASSES).astype(np.uint16)
        owners = (records // 2).astype(np.uint64)
        written.append(write_shard(store, name, tokens.astype(np.uint16), offsets, owners, labels))
        at += len(part)
    split = Split(len(lengths), len(lengths), sum(lengths) + len(lengths), 0, written)
    facts = TokenizerFacts("bpe", "", END, start_id)
    return Made(store, Manifest({"train": split}, START + 1, facts, labels=["a", "b", "c"]), lengths)


def record_of(row: list[int]) -> int:
    return next(token for token in row if token not in (START, FILL))


def check_row(row: list[int], target: int, lengths: list[int], start_id: int | None, context: int) -> int:
    """That a row is the whole of what it must be; returns its record."""
    record = record_of(row)
    opening = [start_id] if start_id is not None else []
    room = context - len(opening) - 1
    expected = [*opening, *[record] * min(lengths[record], room), END]
    assert row[: len(expected)] == expected
    assert set(row[len(expected) :]) <= {FILL}
    assert target == record % CLASSES
    return record


LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=25)


@settings(max_examples=40, deadline=None)
@given(
    LENGTHS, st.integers(8, 50), st.integers(1, 9), st.integers(0, 2**63 - 1), st.sampled_from([START, None])
)
def test_every_record_once_an_epoch(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    context: int,
    batch_size: int,
    seed: int,
    start_id: int | None,
) -> None:
    store, manifest, _ = made(tmp_path_factory.mktemp("run"), lengths, start_id)
    rows = Rows(store, manifest, "train", context)
    assert rows.count == rows.tokens == len(lengths)
    assert rows.cut == sum(size + 1 + (start_id is not None) > context for size in lengths)
    seen = []
    for step in range(-(-2 * rows.count // batch_size)):
        inputs_BT, targets_B1 = rows.batch(step, batch_size, seed)
        assert inputs_BT.dtype == targets_B1.dtype == np.int64
        assert targets_B1.shape == (batch_size, 1)
        longest = max(
            min(lengths[record_of(row)] + 1 + (start_id is not None), context) for row in inputs_BT.tolist()
        )
        assert inputs_BT.shape == (batch_size, min(-(-longest // 16) * 16, context))
        for row, target in zip(inputs_BT.tolist(), targets_B1[:, 0].tolist(), strict=True):
            seen.append(check_row(row, target, lengths, start_id, context))
    every = list(range(len(lengths)))
    assert sorted(seen[: len(every)]) == sorted(seen[len(every) : 2 * len(every)]) == every


def test_in_order_is_the_order_of_the_shards(tmp_path: Path) -> None:
    store, manifest, lengths = made(tmp_path, list(range(1, 12)), shards=3)
    rows = Rows(store, manifest, "train", 16)
    parts = list(rows.in_order(4))
    assert [len(inputs) for inputs, _ in parts] == [4, 4, 3]
    found = [record_of(row) for inputs, _ in parts for row in inputs.tolist()]
    assert found == list(range(len(lengths)))
    assert np.concatenate([targets for _, targets in parts])[:, 0].tolist() == [n % 3 for n in range(11)]


def test_a_batch_is_pure_and_the_cache_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, manifest, _ = made(tmp_path, list(range(1, 60)), shards=4)
    cached = Rows(store, manifest, "train", 24)
    monkeypatch.setattr(stored, "CACHED_BYTES", 0)
    read = Rows(store, manifest, "train", 24)
    assert cached._records._held
    assert not read._records._held
    for step in (5, 0, 123, 5):
        for one, other in zip(cached.batch(step, 6, seed=3), read.batch(step, 6, seed=3), strict=True):
            assert (one == other).all()
    assert not np.array_equal(cached.batch(0, 59, seed=3)[1], cached.batch(0, 59, seed=4)[1])
    assert not np.array_equal(cached.batch(0, 59, seed=3)[1], cached.batch(1, 59, seed=3)[1])


def test_the_same_row_is_made_for_prediction(tmp_path: Path) -> None:
    store, manifest, lengths = made(tmp_path, [3, 30])
    for inputs, _ in Rows(store, manifest, "train", 12).in_order(1):
        row = inputs[0].tolist()
        record = record_of(row)
        text = [record] * lengths[record]
        assert [token for token in row if token != FILL] == row_of(text, manifest.tokenizer, 12)
    tokenizer = byte_tokenizer()
    assert row_of(tokenizer.encode("书"), tokenizer, 8) == [0xE4, 0xB9, 0xA6, tokenizer.end_id]
    assert row_of(tokenizer.encode("a" * 9), tokenizer, 8) == [97] * 7 + [tokenizer.end_id]
    assert row_of([], TokenizerFacts("bpe", "", END, START), 8) == [START, END]


def test_a_split_is_opened_as_its_labels_say(tmp_path: Path) -> None:
    store, manifest, _ = made(tmp_path, [40, 40])
    assert isinstance(open_split(store, manifest, "train", 16), Rows)
    plain = Manifest(manifest.splits, manifest.vocab_size, manifest.tokenizer)
    assert isinstance(open_split(store, plain, "train", 16), Windows)


# ---- private training ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.integers(8, 50), st.data())
def test_what_a_unit_gives_does_not_depend_on_the_others(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], context: int, data: st.DataObject
) -> None:
    store, manifest, _ = made(tmp_path_factory.mktemp("run"), lengths)
    units = UnitRows(store, manifest, context, "owner", 2)
    assert units.count == -(-len(lengths) // 2)
    asked = data.draw(st.lists(st.integers(0, units.count - 1), unique=True))
    together = units.rows(np.array(asked, np.int64), np.random.default_rng(0))
    assert together.inputs_NT.shape == (len(together.unit_N), context)
    assert together.targets_NT.shape == (len(together.unit_N), 1)
    assert together.inputs_NT.dtype == together.targets_NT.dtype == np.int64
    for place, unit in enumerate(asked):
        here = together.unit_N == place
        alone = units.rows(np.array([unit]), np.random.default_rng(1))
        assert np.array_equal(together.inputs_NT[here], alone.inputs_NT)
        assert np.array_equal(together.targets_NT[here], alone.targets_NT)
        for row, target in zip(alone.inputs_NT.tolist(), alone.targets_NT[:, 0].tolist(), strict=True):
            assert check_row(row, target, lengths, START, context) // 2 == unit


def test_a_unit_gives_at_most_so_many_records_drawn_anew(tmp_path: Path) -> None:
    store, manifest, _ = made(tmp_path, [5] * 12)
    units = UnitRows(store, manifest, 16, "owner", 1)
    random = np.random.default_rng(0)
    drawn = [units.rows(np.arange(6), random) for _ in range(12)]
    assert all(batch.unit_N.tolist() == list(range(6)) for batch in drawn)
    assert {record_of(row) for batch in drawn for row in batch.inputs_NT.tolist()} == set(range(12))
    records = UnitRows(store, manifest, 16, "record", 1)
    assert records.count == 12
    none = records.rows(np.zeros(0, np.int64), random)
    assert (none.inputs_NT.shape, none.targets_NT.shape, len(none.unit_N)) == ((0, 16), (0, 1), 0)
