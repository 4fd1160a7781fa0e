"""Sealed files give back what was written, wherever one looks, and keep each write apart from every other."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.errors import MachineError, VaultError
from shuyuan.vault.seal import (
    BATCH,
    HEADER_BYTES,
    SEGMENT_BYTES,
    TAG_BYTES,
    DataKey,
    Header,
    Role,
    SealedReader,
    SealedWriter,
)

KEY = DataKey(bytes(16), 1, bytes(range(32)))
SMALL = 16


def seal(path: Path, content: bytes, *, pieces: list[int] | None = None, segment: int = SMALL) -> Header:
    header = Header(Role.FILE, KEY.run, 1, 1, segment_bytes=segment)
    out = SealedWriter(path, KEY, header, "data/x")
    at = 0
    for count in pieces or []:
        out.write(content[at : at + count])
        at += count
    out.write(memoryview(content)[at:])
    out.finish()
    return header


def reader(path: Path, header: Header) -> SealedReader:
    return SealedReader(path, KEY, header, "data/x")


EDGES = st.sampled_from(
    [0, 1, 15, 16, 17, 31, 32, 33, SMALL * BATCH - 1, SMALL * BATCH, SMALL * BATCH + 1, 300]
)


@settings(max_examples=150, deadline=None)
@given(
    size=EDGES | st.integers(0, 400),
    pieces=st.lists(st.integers(0, 70), max_size=8),
    looks=st.lists(st.tuples(EDGES | st.integers(0, 420), EDGES | st.integers(0, 420)), max_size=12),
)
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, size: int, pieces: list[int], looks: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("seal") / "file"
    content = os.urandom(size)
    header = seal(path, content, pieces=pieces)
    sealed = reader(path, header)
    assert sealed.size == size
    sealed.check()
    for offset, count in looks:
        assert sealed.read_at(offset, count) == content[offset : offset + count]
    assert sealed.read_at(0, size) == content
    sealed.close()


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("segments", [0, 1, 2, BATCH, BATCH + 1])
def test_real_segments(tmp_path: Path, segments: int, extra: int) -> None:
    content = os.urandom(max(0, segments * SEGMENT_BYTES + extra))
    header = seal(tmp_path / "file", content, segment=SEGMENT_BYTES)
    sealed = reader(tmp_path / "file", header)
    assert sealed.read_at(0, len(content)) == content
    middle = max(0, len(content) - SEGMENT_BYTES - 7)
    assert sealed.read_at(middle, 14) == content[middle : middle + 14]
    count = max(1, -(-len(content) // SEGMENT_BYTES))
    assert (tmp_path / "file").stat().st_size == HEADER_BYTES + len(content) + count * TAG_BYTES
    sealed.close()


def test_the_same_content_never_looks_the_same(tmp_path: Path) -> None:
    content = bytes(100)
    seal(tmp_path / "a", content)
    seal(tmp_path / "b", content)
    a, b = (tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()
    starts = range(HEADER_BYTES, len(a), SMALL + TAG_BYTES)
    assert len({data[at : at + SMALL] for data in (a, b) for at in starts}) == 2 * len(starts) == 14


def test_every_bit_of_a_salt_is_fresh() -> None:
    salts = [int.from_bytes(Header(Role.FILE, KEY.run, 1, 1).salt, "big") for _ in range(64)]
    assert all({salt >> bit & 1 for salt in salts} == {0, 1} for bit in range(256))


def test_threads_can_share_a_reader(tmp_path: Path) -> None:
    content = os.urandom(5000)
    sealed = reader(tmp_path / "file", seal(tmp_path / "file", content))
    wrong = []

    def look(start: int) -> None:
        for at in range(start, 4900, 13):
            if sealed.read_at(at, 90) != content[at : at + 90]:
                wrong.append(at)

    threads = [threading.Thread(target=look, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sealed.close()
    assert wrong == []


def test_a_failed_segment_does_not_spoil_the_others(tmp_path: Path) -> None:
    content = os.urandom(100)
    header = seal(tmp_path / "file", content)
    with (tmp_path / "file").open("r+b") as file:
        file.seek(HEADER_BYTES + 2 * (SMALL + TAG_BYTES))
        file.write(b"\0\0\0")
    sealed = reader(tmp_path / "file", header)
    assert sealed.read_at(0, 32) == content[:32]
    for _ in range(2):
        with pytest.raises(VaultError, match="broken-seal"):
            sealed.read_at(30, 10)
    assert sealed.read_at(48, 52) == content[48:]
    with pytest.raises(VaultError, match="broken-seal"):
        sealed.check()
    sealed.close()


def test_negative_places_are_refused(tmp_path: Path) -> None:
    sealed = reader(tmp_path / "file", seal(tmp_path / "file", b"abc"))
    with pytest.raises(ValueError, match="negative"):
        sealed.read_at(-1, 1)
    sealed.close()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(MachineError):
        seal(tmp_path / "file", b"other")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_keys_are_not_shown() -> None:
    assert "secret" not in repr(KEY)
    assert KEY.secret.hex() not in repr(KEY)
