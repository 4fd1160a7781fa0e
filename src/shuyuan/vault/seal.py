"""Sealed files: a header, then segments of AES-256-GCM, each of which can be opened by itself.

Every file has its own key, derived from the data key, a fresh salt, the whole header and the logical name; a segment's
nonce is its number and whether it is the last one. So a segment opens only in its own file, at its own place.
The design is the streaming AEAD of Tink (AES-GCM-HKDF); docs/vault-format.md gives every byte, with test vectors.
Reference: Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015.
"""

from __future__ import annotations

import io
import os
import struct
import threading
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import VaultError
from ..runs import sync_folder
from . import disk

MAGIC = b"SHUYUAN\0"
FORMAT = 1
SEGMENT_BYTES = 64 * 1024
TAG_BYTES = 16
BATCH = 8  # segments read and written at once: two buffers of half a megabyte stay in the cache of a core
_HEADER = struct.Struct(">8sHHI16sIQ32s")
HEADER_BYTES = _HEADER.size
_NONCE = struct.Struct(">7xI?")


class Role(IntEnum):
    """What a sealed file is."""

    FILE = 1
    JOURNAL = 2
    INDEX = 3


@dataclass(frozen=True)
class Header:
    """What stands, readable by all and changed by none, at the beginning of a sealed file.

    Args:
        role: file, journal or index.
        run: run id, 16 bytes.
        epoch: number of the data key, from 1; `keys rotate --reencrypt` makes the next one.
        generation: how often this logical name has been written, from 1.
        salt: 32 random bytes, fresh for every write.
        segment_bytes: content bytes a segment.
    """

    role: Role
    run: bytes
    epoch: int
    generation: int
    salt: bytes = field(default_factory=lambda: os.urandom(32))
    segment_bytes: int = SEGMENT_BYTES

    def pack(self) -> bytes:
        """Its bytes as they are on disk, `HEADER_BYTES` of them."""
        return _HEADER.pack(
            MAGIC, FORMAT, self.role, self.segment_bytes, self.run, self.epoch, self.generation, self.salt
        )

    @classmethod
    def unpack(cls, data: bytes) -> Header | None:
        """The header that `data` begins with; None if it is none of ours.

        Args:
            data: the beginning of a file; what follows the header is not looked at.
        """
        if len(data) < HEADER_BYTES:
            return None
        magic, version, role, segment_bytes, run, epoch, generation, salt = _HEADER.unpack_from(data)
        if (
            magic != MAGIC
            or version != FORMAT
            or role not in list(Role)
            or not 16 <= segment_bytes <= 1 << 24
        ):
            return None
        return cls(Role(role), run, epoch, generation, salt, segment_bytes)


@dataclass(frozen=True)
class DataKey:
    """The random key of a run, which everything in it is sealed with.

    Args:
        run: run id, 16 bytes.
        epoch: number of this data key in the run, from 1.
        secret: 32 bytes.
    """

    run: bytes
    epoch: int
    secret: bytes = field(repr=False)

    def derive(self, salt: bytes, info: bytes) -> bytes:
        """32 bytes for one purpose, by HKDF-SHA256 (RFC 5869).

        Args:
            salt: for content the file's own, 32 random bytes; fixed for what must come out the same each time.
            info: what the bytes are for.

        Returns:
            The same for the same key, salt and info.
        """
        return HKDF(hashes.SHA256(), 32, salt, info).derive(self.secret)

    def file_key(self, header: bytes, name: str) -> FileKey:
        """That of one sealed file or journal: bound to its header and its logical name.

        Args:
            header: as packed; its last 32 bytes are the salt.
            name: logical name of the file.
        """
        return FileKey(self.derive(header[-32:], b"shuyuan/1/seal\0" + header + name.encode()))

    def content_key(self, header: bytes, name: str) -> AESGCM:
        """What seals and opens the content of one sealed file or journal.

        Args:
            header: as packed; its last 32 bytes are the salt.
            name: logical name of the file.
        """
        return self.file_key(header, name).content_key(header, name)


@dataclass(frozen=True)
class FileKey:
    """The key of one sealed file, for a process that has no other; whoever derived it has bound it to header and name.

    Args:
        secret: 32 bytes.
    """

    secret: bytes = field(repr=False)

    def content_key(self, header: bytes, name: str) -> AESGCM:
        """What seals and opens the content of that file.

        Args:
            header: as packed; its last 32 bytes are the salt.
            name: logical name of the file.
        """
        return AESGCM(self.secret)


def looks_sealed(path: Path) -> bool:
    """Whether a file begins like a sealed one, of whatever run and version."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def broken(
    path: Path, name: str, what: str = "bytes were changed, cut, moved, or taken from another file"
) -> VaultError:
    """The error for a seal that does not open; it says which file, and nothing of what is in it."""
    return VaultError(
        "vault.broken-seal",
        f"The seal of {name} does not open: {what}.",
        where=str(path),
        mend="Restore the file from a copy, or make it again with the verb that wrote it.",
    )


class SealedWriter:
    """Seals a file from start to end. The last segment is written, and all is on disk, when `finish` returns.

    Args:
        path: where; there must be nothing.
        key: the run's data key, or that of this file.
        header: what the file begins with.
        name: logical name.
    """

    def __init__(self, path: Path, key: DataKey | FileKey, header: Header, name: str) -> None:
        self._path = path
        self._header = header.pack()
        self._cipher = key.content_key(self._header, name)
        self._segment_bytes = header.segment_bytes
        self._held = (
            bytearray()
        )  # at least one byte of a non-empty file stays here: any segment may be the last
        self._out = bytearray(BATCH * (header.segment_bytes + TAG_BYTES))
        self._filled = 0
        self._count = 0
        with disk.writing(path):
            self._handle = disk.create(path)
            disk.write_at(self._handle, self._header, 0)
        self._end = HEADER_BYTES
        self._closed = False

    def write(self, data: bytes | memoryview) -> None:
        """Adds content."""
        view = memoryview(data).cast("B")
        size = self._segment_bytes
        if self._held and len(self._held) + len(view) > size:
            missing = size - len(self._held)
            self._held += view[:missing]
            view = view[missing:]
            self._seal(memoryview(self._held), last=False)
            self._held = bytearray()
        while len(view) > size:
            self._seal(view[:size], last=False)
            view = view[size:]
        self._held += view

    def finish(self) -> None:
        """Seals what is left as the last segment; the file is whole and on disk afterwards."""
        self._seal(memoryview(self._held), last=True)
        self._flush()
        with disk.writing(self._path):
            os.fsync(self._handle)
        self._close()
        sync_folder(self._path.parent)

    def abandon(self) -> None:
        """Takes the file away."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._handle)

    def _seal(self, content: memoryview, *, last: bool) -> None:
        if self._filled + len(content) + TAG_BYTES > len(self._out):
            self._flush()
        end = self._filled + len(content) + TAG_BYTES
        place = memoryview(self._out)[self._filled : end]
        self._cipher.encrypt_into(_NONCE.pack(self._count, last), content, self._header, place)
        self._filled = end
        self._count += 1

    def _flush(self) -> None:
        with disk.writing(self._path):
            disk.write_at(self._handle, memoryview(self._out)[: self._filled], self._end)
        self._end += self._filled
        self._filled = 0


class SealedReader:
    """Random access to a sealed file. The size is certain from the start, for the last segment is opened first.

    Args:
        path: the sealed file.
        key: the run's data key, or that of this file.
        header: what the file must begin with.
        name: logical name.

    Raises:
        VaultError: the file does not begin with that header, or its end is not where it was written.
    """

    def __init__(self, path: Path, key: DataKey | FileKey, header: Header, name: str) -> None:
        self._path = path
        self._name = name
        self._header = header.pack()
        self._cipher = key.content_key(self._header, name)
        self._segment_bytes = header.segment_bytes
        self._lock = threading.Lock()
        self._first = self._held = 0  # which segments lie opened in the buffer
        self._handle = os.open(path, os.O_RDONLY)
        try:
            self.size = self._measure()
            self._sealed = memoryview(bytearray(min(BATCH, self._count) * (self._segment_bytes + TAG_BYTES)))
            self._plain = memoryview(bytearray(min(BATCH, self._count) * self._segment_bytes))
            self._open(self._count - 1, 1)
        except BaseException:
            os.close(self._handle)
            raise

    def _measure(self) -> int:
        body = os.fstat(self._handle).st_size - HEADER_BYTES
        full, rest = divmod(body, self._segment_bytes + TAG_BYTES)
        self._count = full + (rest > 0)
        size = body - self._count * TAG_BYTES
        shape_is_right = rest == 0 or rest > TAG_BYTES or (full == 0 and rest == TAG_BYTES)
        if body < TAG_BYTES or not shape_is_right or os.pread(self._handle, HEADER_BYTES, 0) != self._header:
            raise broken(self._path, self._name)
        return size

    def read_at(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`; fewer only at the end.

        Raises:
            VaultError: a segment in that range does not open.
        """
        if offset < 0 or count < 0:
            raise ValueError("offset and count are not negative")
        end = min(offset + count, self.size)
        if offset >= end:
            return b""
        size = self._segment_bytes
        first, last = offset // size, (end - 1) // size
        with self._lock:
            if first == last:
                start = offset - first * size
                return bytes(self._open(first, 1)[start : start + end - offset])
            out = io.BytesIO()  # grows without clearing, and gives up its buffer without a copy
            for at in range(first, last + 1, BATCH):
                plain = self._open(at, min(BATCH, last + 1 - at))
                out.write(plain[max(offset - at * size, 0) : end - at * size])
            return out.getvalue()

    def check(self) -> None:
        """Opens every segment.

        Raises:
            VaultError: one does not open.
        """
        with self._lock:
            for at in range(0, self._count, BATCH):
                self._open(at, min(BATCH, self._count - at))

    def close(self) -> None:
        os.close(self._handle)

    def _open(self, first: int, count: int) -> memoryview:
        """Content of `count` segments from the segment `first`; valid until the next call."""
        size, sealed_size = self._segment_bytes, self._segment_bytes + TAG_BYTES
        start = (first - self._first) * size
        stop = min(start + count * size, self.size - self._first * size)
        if self._first <= first and first + count <= self._first + self._held:
            return self._plain[start:stop]
        self._first, self._held = first, 0
        end = min(
            HEADER_BYTES + (first + count) * sealed_size, HEADER_BYTES + self.size + self._count * TAG_BYTES
        )
        sealed = self._sealed[: end - HEADER_BYTES - first * sealed_size]
        if os.preadv(self._handle, [sealed], HEADER_BYTES + first * sealed_size) != len(sealed):
            raise broken(self._path, self._name)
        try:
            for number in range(count):
                part = sealed[number * sealed_size : (number + 1) * sealed_size]
                place = self._plain[number * size : number * size + len(part) - TAG_BYTES]
                nonce = _NONCE.pack(first + number, first + number == self._count - 1)
                self._cipher.decrypt_into(nonce, part, self._header, place)
        except InvalidTag:
            raise broken(self._path, self._name) from None
        self._held = count
        return self._plain[: len(sealed) - count * TAG_BYTES]
