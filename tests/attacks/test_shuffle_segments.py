"""Exploit: put the segments of a file together in another way, or with those of another file, run or time."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from shuyuan.errors import VaultError
from shuyuan.vault.seal import HEADER_BYTES, TAG_BYTES, DataKey, Header, Role, SealedReader, SealedWriter

SIZE = 16
KEY = DataKey(bytes(16), 1, bytes(32))


def seal(
    path: Path, key: DataKey = KEY, name: str = "data/x", generation: int = 1
) -> tuple[bytes, list[bytes]]:
    """Seals three segments; returns the header and the sealed segments. Their content is the same each time."""
    header = Header(Role.FILE, key.run, key.epoch, generation, segment_bytes=SIZE)
    out = SealedWriter(path, key, header, name)
    out.write(b"first segment   second segment  third")
    out.finish()
    data = path.read_bytes()
    step = SIZE + TAG_BYTES
    return data[:HEADER_BYTES], [data[at : at + step] for at in range(HEADER_BYTES, len(data), step)]


def refused(path: Path, head: bytes, segments: list[bytes], expected: bytes | None = None) -> None:
    path.write_bytes(head + b"".join(segments))
    header = Header.unpack(expected or head)
    assert header is not None
    with pytest.raises(VaultError, match="broken-seal"):
        SealedReader(path, KEY, header, "data/x").check()


def test_every_other_order(tmp_path: Path) -> None:
    head, segments = seal(tmp_path / "file")
    for count in (1, 2, 3, 4):
        for chosen in itertools.product(segments, repeat=count):
            if list(chosen) != segments:
                refused(tmp_path / "other", head, list(chosen))


@pytest.mark.parametrize(
    ("key", "name", "generation"),
    [
        (KEY, "data/x", 1),  # another write of the same content
        (KEY, "data/x", 2),  # another version
        (KEY, "data/y", 1),  # another file
        (DataKey(b"\1" * 16, 1, KEY.secret), "data/x", 1),  # another run, were its key the same
        (DataKey(KEY.run, 2, KEY.secret), "data/x", 1),  # another data key's number
        (DataKey(KEY.run, 1, b"\1" * 32), "data/x", 1),  # another key
    ],
)
def test_segments_from_elsewhere(tmp_path: Path, key: DataKey, name: str, generation: int) -> None:
    head, segments = seal(tmp_path / "file")
    other_head, others = seal(tmp_path / "other", key, name, generation)
    for at in range(3):
        refused(tmp_path / "spliced", head, [*segments[:at], others[at], *segments[at + 1 :]])
    refused(tmp_path / "spliced", head, others)
    refused(tmp_path / "spliced", other_head, others, expected=head)
    refused(tmp_path / "spliced", other_head, segments)


def test_the_header_is_part_of_the_seal(tmp_path: Path) -> None:
    """A header that claims something else opens nothing, even if it is expected."""
    head, segments = seal(tmp_path / "file")
    was = Header.unpack(head)
    assert was is not None
    for claim in (
        Header(Role.JOURNAL, was.run, was.epoch, was.generation, was.salt, SIZE),
        Header(Role.FILE, b"\1" * 16, was.epoch, was.generation, was.salt, SIZE),
        Header(Role.FILE, was.run, 2, was.generation, was.salt, SIZE),
        Header(Role.FILE, was.run, was.epoch, 2, was.salt, SIZE),
        Header(Role.FILE, was.run, was.epoch, was.generation, bytes(32), SIZE),
        Header(Role.FILE, was.run, was.epoch, was.generation, was.salt, 2 * SIZE),
    ):
        refused(tmp_path / "claimed", claim.pack(), segments)
