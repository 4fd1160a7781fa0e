"""Shards are files that safetensors opens too, read at random, and refused when they are not what they say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load

from shuyuan.data.shards import Shard, token_type, write_shard
from shuyuan.errors import DataError
from shuyuan.vault import OpenStore

NAME = "data/train-00000.shard"


class Bytes:
    """A reader of bytes in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)
        self.read = 0

    def read_at(self, offset: int, count: int) -> bytes:
        self.read += count
        return self._content[offset : offset + count]

    def close(self) -> None: ...


def written(folder: Path, kind: Any = np.uint16) -> tuple[OpenStore, bytes]:
    store = OpenStore(folder)
    offsets, owners = np.array([0, 3, 3, 10], np.uint64), np.array([7, 8, 2**63], np.uint64)
    facts = write_shard(store, NAME, np.arange(10, dtype=kind), offsets, owners)
    content = store.read(NAME)
    assert (facts.name, facts.records, facts.tokens) == (NAME, 3, 10)
    assert facts.sha256 == hashlib.sha256(content).hexdigest()
    return store, content


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
def test_safetensors_reads_the_same(tmp_path: Path, kind: Any) -> None:
    _, content = written(tmp_path, kind)
    arrays = load(content)
    shard = Shard(Bytes(content), NAME)
    assert arrays["tokens"].dtype == kind
    assert shard.read(0, 10).tolist() == arrays["tokens"].tolist() == list(range(10))
    assert shard.offsets().tolist() == arrays["offsets"].tolist() == [0, 3, 3, 10]
    assert shard.owners().tolist() == arrays["owners"].tolist() == [7, 8, 2**63]
    assert (shard.tokens, shard.records) == (10, 3)


def test_a_shard_without_labels_is_what_it_always_was(tmp_path: Path) -> None:
    _, content = written(tmp_path)
    digest = "412a7db6fcfc1a681cdae3d073d56cf1adb3a21f816625bd25b06694eb862aba"
    assert hashlib.sha256(content).hexdigest() == digest
    with pytest.raises(DataError, match="holds no labels"):
        Shard(Bytes(content), NAME).labels(2)


def with_labels(folder: Path, labels: list[int], kind: Any = np.uint16) -> bytes:
    store = OpenStore(folder)
    offsets, owners = np.array([0, 3, 3, 10], np.uint64), np.array([7, 8, 2**63], np.uint64)
    write_shard(store, NAME, np.arange(10, dtype=kind), offsets, owners, np.array(labels, np.uint16))
    return store.read(NAME)


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
def test_labels_stand_beside_the_tokens(tmp_path: Path, kind: Any) -> None:
    content = with_labels(tmp_path, [1, 0, 65_535], kind)
    arrays, shard = load(content), Shard(Bytes(content), NAME)
    assert shard.labels(65_536).tolist() == arrays["labels"].tolist() == [1, 0, 65_535]
    assert shard.read(0, 10).tolist() == list(range(10))
    assert shard.offsets().tolist() == [0, 3, 3, 10]
    assert shard.owners().tolist() == [7, 8, 2**63]


def test_labels_must_fit(tmp_path: Path) -> None:
    for labels, classes in (([0, 1], 2), ([0, 1, 1, 1], 2), ([], 2), ([0, 1, 2], 2)):
        content = with_labels(tmp_path, labels)
        with pytest.raises(DataError, match=r"data\.bad-shard"):
            Shard(Bytes(content), NAME).labels(classes)
    content = with_labels(tmp_path, [0, 1, 1])
    for forgery in (forged(content, labels__dtype="U32"), forged(content, labels__shape=[4]), content[:-1]):
        with pytest.raises(DataError, match=r"data\.bad-shard"):
            Shard(Bytes(forgery), NAME)


def test_only_the_asked_bytes_are_read(tmp_path: Path) -> None:
    store = OpenStore(tmp_path)
    tokens = np.arange(50_000, dtype=np.uint16)
    write_shard(store, NAME, tokens, np.array([0, 50_000], np.uint64), np.array([1], np.uint64))
    reader = Bytes(store.read(NAME))
    shard = Shard(reader, NAME)
    before = reader.read
    assert shard.read(40_000, 40_010).tolist() == list(range(40_000, 40_010))
    assert reader.read - before == 20
    for start, stop in ((-1, 3), (3, 2), (0, 50_001)):
        with pytest.raises(IndexError):
            shard.read(start, stop)


def test_token_type() -> None:
    assert token_type(65_536) is np.uint16
    assert token_type(65_537) is np.uint32


def forged(content: bytes, **changes: Any) -> bytes:
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    for path, value in changes.items():
        tensor, key = path.split("__")
        header[tensor][key] = value
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def test_what_is_no_shard_is_refused(tmp_path: Path) -> None:
    _, content = written(tmp_path)
    Shard(Bytes(forged(content)), NAME)
    bad = {
        "empty": b"",
        "short": content[:7],
        "cut": content[:-1],
        "longer": content + b"\0",
        "huge header": b"\xff" * 8 + content[8:],
        "no JSON": content[:8] + b"x" + content[9:],
        "a list": (2).to_bytes(8, "little") + b"[]",
        "another tensor": (2).to_bytes(8, "little") + b"{}",
        "deep": (60_000).to_bytes(8, "little") + b"[" * 60_000,
        "type": forged(content, tokens__dtype="F32"),
        "shape": forged(content, tokens__shape=[11]),
        "negative": forged(content, tokens__shape=[-1]),
        "flag": forged(content, tokens__shape=[True]),
        "dimensions": forged(content, tokens__shape=[2, 5]),
        "overlap": forged(content, owners__data_offsets=[8, 32]),
        "reversed": forged(content, owners__data_offsets=[32, 8]),
        "extra key": forged(content, owners__more=1),
    }
    for what, forgery in bad.items():
        with pytest.raises(DataError, match=r"data\.bad-shard") as caught:
            Shard(Bytes(forgery), NAME)
        assert caught.value.where == NAME, what


def test_offsets_must_fit(tmp_path: Path) -> None:
    store = OpenStore(tmp_path)
    for offsets in ([0, 9], [1, 10], [0, 10, 10], [0, 11, 10]):
        owners = np.zeros(1 if len(offsets) < 4 else 3, np.uint64)
        write_shard(store, NAME, np.arange(10, dtype=np.uint16), np.array(offsets, np.uint64), owners)
        with pytest.raises(DataError, match=r"data\.bad-shard"):
            Shard(Bytes(store.read(NAME)), NAME).offsets()


@given(st.integers(0, 300), st.integers(0, 7))
def test_any_flipped_bit_of_the_header_is_refused_or_harmless(place: int, bit: int) -> None:
    """Nothing but DataError comes out of a damaged header, and what is read stays inside the file."""
    tokens = np.arange(10, dtype=np.uint16)
    header = {
        "offsets": {"dtype": "U64", "shape": [2], "data_offsets": [0, 16]},
        "owners": {"dtype": "U64", "shape": [1], "data_offsets": [16, 24]},
        "tokens": {"dtype": "U16", "shape": [10], "data_offsets": [24, 44]},
    }
    text = json.dumps(header).encode()
    content = bytearray(len(text).to_bytes(8, "little") + text)
    content += np.array([0, 10, 7], np.uint64).tobytes() + tokens.tobytes()
    content[place % (8 + len(text))] ^= 1 << bit
    try:
        shard = Shard(Bytes(bytes(content)), NAME)
    except DataError:
        return
    assert len(shard.read(0, shard.tokens)) == shard.tokens
