"""Plain files of a run in the clear, and what is said of one that is not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from ..errors import RunError, cannot_read
from . import disk

READ_BYTES = 2**30  # at once; Linux reads at most 2 GiB less a page


class OpenWriter:
    """Writes a plain file, and names it if the disk refuses."""

    def __init__(self, out: BinaryIO, path: Path) -> None:
        self._out = out
        self._path = path

    def write(self, data: bytes | memoryview) -> None:
        with disk.writing(self._path):
            self._out.write(data)


class OpenReader:
    """Random access to a plain file."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb")
        except PermissionError as error:
            raise cannot_read(error, path) from None
        except OSError as error:
            raise missing(path, f"The file cannot be read ({error.strerror}).") from None
        self.size = os.fstat(self._file.fileno()).st_size

    def read_at(self, offset: int, count: int) -> bytes:
        parts = []
        while count > 0 and (part := os.pread(self._file.fileno(), min(count, READ_BYTES), offset)):
            parts.append(part)
            offset, count = offset + len(part), count - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        self._file.close()


def missing(path: Path, what: str) -> RunError:
    """The error for a file that the run does not have."""
    return RunError(
        "run.missing-file",
        what,
        where=str(path),
        mend="Make it again with the verb that wrote it, or restore it from a copy.",
    )
