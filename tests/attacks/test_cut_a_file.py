"""Exploit: cut a file, or let it grow."""

from __future__ import annotations

from pathlib import Path

import pytest

from shuyuan.errors import VaultError
from shuyuan.vault.seal import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    TAG_BYTES,
    DataKey,
    Header,
    Role,
    SealedReader,
    SealedWriter,
)

from .conftest import Target

SEALED = SEGMENT_BYTES + TAG_BYTES


@pytest.mark.parametrize("size", [0, 1, 16, 47, 48, 49, 64])
def test_at_every_byte(tmp_path: Path, size: int) -> None:
    key = DataKey(bytes(16), 1, bytes(32))
    header = Header(Role.FILE, key.run, 1, 1, segment_bytes=16)
    out = SealedWriter(tmp_path / "file", key, header, "data/x")
    out.write(bytes(size))
    out.finish()
    whole = (tmp_path / "file").read_bytes()
    more = [whole + bytes(count) for count in (1, 15, 16, 17, 31, 32, 33)] + [
        whole + whole[-32:],
        whole + whole[HEADER_BYTES:],
    ]
    for content in [whole[:cut] for cut in range(len(whole))] + more:
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(VaultError, match="broken-seal"):
            SealedReader(tmp_path / "file", key, header, "data/x")


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_at_each_real_segment(tmp_path: Path, segments: int) -> None:
    key = DataKey(bytes(16), 1, bytes(32))
    header = Header(Role.FILE, key.run, 1, 1)
    out = SealedWriter(tmp_path / "file", key, header, "data/x")
    out.write(bytes(segments * SEGMENT_BYTES))
    out.finish()
    whole = (tmp_path / "file").read_bytes()
    for kept in range(segments):
        for off in (-1, 0, 1, TAG_BYTES):
            (tmp_path / "file").write_bytes(whole[: max(0, HEADER_BYTES + kept * SEALED + off)])
            with pytest.raises(VaultError, match="broken-seal"):
                SealedReader(tmp_path / "file", key, header, "data/x")


def test_every_file_of_a_run(target: Target) -> None:
    for file in [file for file in target.run.path.rglob("*") if file.is_file() and file.name != ".lock"]:
        whole, name = file.read_bytes(), file.relative_to(target.run.path).as_posix()
        for content in (whole[:-1], whole[: len(whole) // 2], b""):
            file.write_bytes(content)
            assert target.problems() == [name]
        if name != "vault-1.index":  # an unfinished record at its end is what a crash leaves, and is cut off
            file.write_bytes(whole + b"x")
            assert target.problems() == [name]
        file.unlink()
        assert target.problems() == [name]
        file.write_bytes(whole)


def test_a_record_at_the_end_of_the_index(target: Target) -> None:
    """Whatever is behind the end of the index is nothing: it neither counts nor does harm."""
    index = target.run.path / "vault-1.index"
    whole = index.read_bytes()
    first = whole[
        HEADER_BYTES : HEADER_BYTES + 8 + int.from_bytes(whole[HEADER_BYTES : HEADER_BYTES + 4], "big")
    ]
    index.write_bytes(whole + first)
    assert target.problems() == ["vault-1.index"]
    index.write_bytes(whole + bytes(1000))
    assert target.open().head() == target.heads[-1]
