"""One file of a run, for a process that does not have the run open: it can write this file, or read it, and no other.

Processes that train together write their shares of a checkpoint so. Of a sealed run a permit holds the key of that file alone, from
which neither the run's key nor that of another file follows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..runs import sync_folder
from . import disk
from .clear_file import OpenReader, OpenWriter, missing
from .names import PARTIAL
from .seal import FileKey, Header, SealedReader, SealedWriter
from .store import Reader, Writer


@dataclass(frozen=True)
class Permit:
    """What it takes to write or read one file; JSON can hold it.

    Args:
        path: where the file lies, from the root.
        name: its logical name.
        header: that a sealed file begins with, in hex; empty in the clear.
        key: of a sealed file, in hex; empty in the clear.
    """

    path: str
    name: str
    header: str = ""
    key: str = ""

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Context manager that gives a `Writer`. At its end the file is on disk; whoever has the run open then makes it count.

        Raises:
            MachineError: the disk refuses, or there is such a file already.
        """
        out: SealedWriter | _ClearFile
        if self.header:
            out = SealedWriter(Path(self.path), *self._sealed(), self.name)
        else:
            out = _ClearFile(Path(self.path))
        try:
            yield out
            out.finish()
        except BaseException:
            with suppress(OSError):
                out.abandon()
            raise

    @contextmanager
    def open(self) -> Iterator[Reader]:
        """Context manager that gives a `Reader`.

        Raises:
            RunError: there is no such file.
            VaultError: it is sealed, and not what was written.
        """
        path = Path(self.path)
        try:
            reader: Reader = (
                SealedReader(path, *self._sealed(), self.name) if self.header else OpenReader(path)
            )
        except OSError as error:
            raise missing(path, f"The file cannot be read ({error.strerror}).") from None
        try:
            yield reader
        finally:
            reader.close()

    def _sealed(self) -> tuple[FileKey, Header]:
        header = Header.unpack(bytes.fromhex(self.header))
        assert header is not None  # packed by the process that has the run open
        return FileKey(bytes.fromhex(self.key)), header


class _ClearFile(OpenWriter):
    """A plain file that is being written under its own name; nobody looks for it there before it counts."""

    def __init__(self, path: Path) -> None:
        self._to = path
        with disk.writing(path):
            self._file = os.fdopen(disk.create(path), "wb")
        super().__init__(self._file, path)

    def finish(self) -> None:
        """All is on disk when this returns."""
        with disk.writing(self._to):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            sync_folder(self._to.parent)

    def abandon(self) -> None:
        """Takes the file away."""
        with suppress(OSError):
            self._file.close()
        self._to.unlink(missing_ok=True)


@contextmanager
def landmark(folder: Path) -> Iterator[str]:
    """A file that is there for a moment, by which other processes tell whether a folder is the same for them.

    Args:
        folder: where this process may write.
    """
    path = folder.absolute() / (os.urandom(16).hex() + PARTIAL)
    with disk.writing(path):
        os.close(disk.create(path))
    try:
        yield str(path)
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def sees(landmark: str) -> bool:
    """Whether this process sees the file that another one made as a landmark, and may write beside it.

    Args:
        landmark: its path.
    """
    own = Path(landmark).with_name(os.urandom(16).hex() + PARTIAL)
    try:
        if not Path(landmark).is_file():
            return False
        own.touch(exist_ok=False)
        own.unlink()
    except OSError:
        return False
    return True
