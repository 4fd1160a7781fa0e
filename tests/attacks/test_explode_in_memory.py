"""Exploit: small files of images that claim, or unpack to, more than the machine's memory."""

from __future__ import annotations

import gzip
import resource
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from shuyuan.data.pixels import decoded
from shuyuan.data.sources import WantedImages, open_source
from shuyuan.errors import DataError

WANTED = WantedImages("image", "label", ("image", "label"))
ROOM_MIB = 48


@pytest.fixture(autouse=True)
def _little_memory() -> None:
    """The libraries are loaded before anything is measured."""
    decoded(png(1, 1, b"\0\0"), Counter())


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, pixels: bytes, *more: bytes) -> bytes:
    """A grey PNG of any claim."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(pixels, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8193, 12_000, 16_000, 65_000, 2**31 - 1])
def test_an_image_that_claims_to_be_huge(side: int) -> None:
    before, skipped = peak_mib(), Counter[str]()
    assert decoded(png(side, side, b"\0" * 2**20), skipped) is None
    assert skipped == {"images of over 64 million pixels": 1}
    assert peak_mib() - before < ROOM_MIB


def test_a_comment_that_unpacks_to_gigabytes() -> None:
    comment = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 2**28, 9))
    before, skipped = peak_mib(), Counter[str]()
    assert decoded(png(1, 1, b"\0\0", comment), skipped) is None
    assert skipped == {"images that cannot be read": 1}
    assert peak_mib() - before < ROOM_MIB


def test_idx_files_that_unpack_to_gigabytes(tmp_path: Path) -> None:
    path, labels = tmp_path / "images-idx3-ubyte.gz", tmp_path / "labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 2**28, 1, 1) + b"\0" * 2**28))
    labels.write_bytes(gzip.compress(struct.pack(">2I", 0x801, 2**28) + b"\0" * 2**28))
    before = peak_mib()
    rows = open_source(str(path), WANTED).rows(Counter())
    for _ in range(3):
        next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert peak_mib() - before < ROOM_MIB
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 2**28, 2**16, 2**16) + b"\0" * 2**20))
    with pytest.raises(DataError, match=r"data\.image-size"):
        open_source(str(path), WANTED)


def test_arrays_that_unpack_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"

    def header(shape: tuple[int, ...], kind: str) -> bytes:
        text = str({"descr": kind, "fortran_order": False, "shape": shape}).encode()
        text += b" " * (-(len(text) + 11) % 64) + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header((2**32, 8, 8), "|u1") + b"\0" * 2**27)
        archive.writestr("labels.npy", header((2**32,), "<i8") + b"\0" * 2**27)
    before = peak_mib()
    rows = open_source(str(path), WANTED).rows(Counter())
    assert np.asarray(next(rows).values["image"]).shape == (8, 8)
    rows.close()  # type: ignore[attr-defined]
    assert peak_mib() - before < ROOM_MIB
    for shape in ((1, 2**31, 2**31), (1, 2**16, 2**16, 3)):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images.npy", header(shape, "|u1"))
            archive.writestr("labels.npy", header((1,), "<i8") + b"\0" * 8)
        with pytest.raises(DataError, match=r"data\.image-size"):
            open_source(str(path), WANTED)
