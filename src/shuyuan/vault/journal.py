"""Sealed append-only logs: every line sealed by itself, bound to its number and to the line before it.

A line is its length, a random nonce and AES-256-GCM over the content; the header of the log, the line's number and the
tag of the line before are its associated data. So lines cannot be changed, moved, left out or taken from elsewhere.
Lines cut off at the end are noticed through the index, which notes number and tag of the last line (`Mark`).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag

from ..errors import VaultError
from ..runs import sync_folder
from . import disk
from .seal import HEADER_BYTES, TAG_BYTES, DataKey, Header, broken

NONCE_BYTES = 12
LINE_LIMIT = 1 << 28  # bytes; a length beyond it is no length
_PREFIX = struct.Struct(">II")  # the length of what follows, and its complement: a flipped bit shows
_NUMBER = struct.Struct(">Q")


@dataclass(frozen=True)
class Mark:
    """A place in a log: how many lines, and the tag of the last one."""

    count: int
    tag: bytes


START = Mark(0, bytes(TAG_BYTES))


class SealedLog:
    """A file of sealed lines.

    Args:
        path: the file.
        key: the run's data key.
        header: what the file begins with.
        name: logical name.

    Attributes:
        mark: how far the log goes, after `create` or `read`.
        ragged: whether bytes of an unfinished line may lie behind the end.
    """

    def __init__(self, path: Path, key: DataKey, header: Header, name: str) -> None:
        self.path = path
        self.mark = START
        self._name = name
        self._header = header.pack()
        self._cipher = key.content_key(self._header, name)
        self._end = 0  # where the next line goes; 0 until the log was read or created
        self.ragged = False

    def create(self, *first: bytes) -> None:
        """Makes the file, with its first lines.

        Args:
            first: content of these lines; none is allowed.

        Raises:
            MachineError: the disk refuses, or the file is there already.
        """
        lines = [self._seal(content) for content in first]
        with disk.writing(self.path):
            handle = disk.create(self.path)
            try:
                disk.write_at(handle, self._header + b"".join(lines), 0)
                os.fsync(handle)
                self._end = os.fstat(handle).st_size
            finally:
                os.close(handle)
            sync_folder(self.path.parent)

    def read(self, noted: Mark = START) -> list[bytes]:
        """Content of all whole lines; the log can be appended to afterwards. An unfinished last line is passed over.

        Args:
            noted: what the index says of the log; that far, at least, it must go.

        Raises:
            VaultError: a line does not open, or lines that were noted are gone.
        """
        return [content for content, _ in self.lines(noted)]

    def lines(self, noted: Mark = START) -> Iterator[tuple[bytes, bytes]]:
        """As `read`, one at a time: (content, line as it is on disk).

        Args:
            noted: what the index says of the log; that far, at least, it must go.

        Raises:
            VaultError: a line does not open, or lines that were noted are gone. The latter is said behind the last line.
        """
        self.mark, self._end = START, HEADER_BYTES
        right = noted.count == 0
        with self.path.open("rb") as file:
            if file.read(HEADER_BYTES) != self._header:
                raise broken(self.path, self._name)
            while line := self._next_line(file):
                content = self._unseal(line)
                self._end += len(line)
                right = right or self.mark == noted
                yield content, line
            self.ragged = os.fstat(file.fileno()).st_size > self._end
        if not right:
            raise VaultError(
                "vault.rolled-back",
                f"Lines of {self._name} are gone: it was cut, or an older state was put back.",
                where=str(self.path),
                mend="Restore the newest copy of the run folder.",
            )

    def trim(self) -> None:
        """Cuts off an unfinished last line, after `read`."""
        if self.ragged:
            with disk.writing(self.path):
                handle = os.open(self.path, os.O_WRONLY)
                try:
                    os.ftruncate(handle, self._end)
                    os.fsync(handle)
                finally:
                    os.close(handle)
            self.ragged = False

    def append(self, content: bytes) -> bytes:
        """Adds a line, after `read` or `create`; it is on disk when this returns. Returns it as it is on disk.

        After an exception, of whatever kind, the log must be read again.

        Args:
            content: any bytes; with nonce and tag, 28 bytes more, at most `LINE_LIMIT`.

        Raises:
            MachineError: the disk refuses.
            ValueError: the line is longer than `LINE_LIMIT`.
        """
        self.trim()
        line = self._seal(content)
        with disk.writing(self.path):
            handle = os.open(self.path, os.O_WRONLY)
            try:
                disk.write_at(handle, line, self._end)
                os.fsync(handle)
            finally:
                os.close(handle)
        self._end += len(line)
        return line

    def _seal(self, content: bytes) -> bytes:
        # The nonce is random and not the number: after a crash a number is used again for another line, and under one
        # key a nonce must never be.
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, content, self._bound())
        if len(sealed) > LINE_LIMIT:
            raise ValueError(f"a line of {len(content)} bytes is too long for a log")
        self.mark = Mark(self.mark.count + 1, sealed[-TAG_BYTES:])
        return _PREFIX.pack(len(sealed), len(sealed) ^ 0xFFFFFFFF) + sealed

    def _unseal(self, line: bytes) -> bytes:
        sealed = line[_PREFIX.size :]
        try:
            content = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self._bound())
        except InvalidTag:
            raise broken(self.path, f"{self._name} (line {self.mark.count + 1})") from None
        self.mark = Mark(self.mark.count + 1, sealed[-TAG_BYTES:])
        return content

    def _bound(self) -> bytes:
        return self._header + _NUMBER.pack(self.mark.count + 1) + self.mark.tag

    def _next_line(self, file: BinaryIO) -> bytes:
        """The next line as it is on disk; empty at the end, and where a crash left less than a line.

        A power cut may also leave zeros in the place of what was not yet written.
        """
        prefix = file.read(_PREFIX.size)
        if len(prefix) < _PREFIX.size:
            return b""
        length, complement = _PREFIX.unpack(prefix)
        if length ^ complement != 0xFFFFFFFF or not NONCE_BYTES + TAG_BYTES <= length <= LINE_LIMIT:
            if not any(file.read()):
                return b""
            raise broken(self.path, f"{self._name} (line {self.mark.count + 1})")
        sealed = file.read(length)
        unwritten = len(sealed) < length or (not any(sealed[-TAG_BYTES:]) and not file.read(1))
        return b"" if unwritten else prefix + sealed
