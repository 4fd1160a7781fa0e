"""The one way in which rooms read and write a run folder: sealed or open, whole or not at all.

Names are logical and the same in both kinds of run: `data/train-00000.shard`, `metrics.jsonl`. An open run uses them
as they are; a sealed run (`sealed_store.py`) writes each under a name that says nothing.
"""

from __future__ import annotations

import hashlib
import io
import io
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

from ..errors import RunError, VaultError
from ..run import LOCK_FILE, sync_folder


@dataclass(frozen=True)
class Problem:
    """One thing wrong that `verify` found: the file (a path inside the run folder) and what is wrong with it."""

    file: str
    what: str


class Reader(Protocol):
    """A file opened for random access."""

    @property
    def size(self) -> int:
        """Bytes of content."""
        ...

    def read_at(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`; fewer only at the end."""
        ...

    def close(self) -> None: ...


class Writer(Protocol):
    """A file that is being written, start to end."""

    def write(self, data: bytes | memoryview) -> None: ...


class Journal(Protocol):
    """An append-only log of JSON objects."""

    def append(self, entry: dict[str, Any]) -> None:
        """Adds one line; it is on disk when this returns."""
        ...

    def entries(self) -> Iterator[dict[str, Any]]:
        """Every whole line, oldest first; an unfinished last line (a crash) is passed over."""
        ...


class Folder(Protocol):
    """A folder that appears whole, or not at all."""

    def write(self, name: str, data: bytes | memoryview) -> None: ...


class Store(ABC):
    """Reads and writes the files of one run. Use as a context manager, or call `close`.

    Attributes:
        path: the run folder.
        sealed: whether content is encrypted and authenticated.
    """

    sealed: bool

    def __init__(self, path: Path) -> None:
        self.path = path

    # -- writing --

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Writes one file: the old one stays until the new one is whole and on disk."""
        with self.writer(name) as out:
            out.write(data)

    @abstractmethod
    def writer(self, name: str) -> Any:
        """Context manager that gives a `Writer`; the file appears at the end, and not at all after an exception."""

    @abstractmethod
    def folder(self, name: str) -> Any:
        """Context manager that gives a `Folder`; all of its files appear together by one rename, replacing the old."""

    @abstractmethod
    def write_open(self, name: str, data: bytes) -> None:
        """Writes a file that stays in the clear in a sealed run too (recipe, plan, public report)."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Removes a file, or a folder with all that is in it; nothing happens if it is not there."""

    @abstractmethod
    def journal(self, name: str) -> Journal:
        """The append-only log of that name; it begins with its first line."""

    # -- reading --

    @abstractmethod
    def open(self, name: str) -> Any:
        """Context manager that gives a `Reader`. Raises VaultError or RunError naming the file."""

    def read(self, name: str) -> bytes:
        """The whole content of a file."""
        with self.open(name) as reader:
            content: bytes = reader.read_at(0, reader.size)
            return content

    @abstractmethod
    def names(self, prefix: str = "") -> list[str]:
        """Logical names of all files that begin with `prefix`, sorted."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name, or a folder with files in it."""
        return any(found == name or found.startswith(name + "/") for found in self.names(name))

    # -- secrets and checks --

    @abstractmethod
    def derive_key(self, purpose: str) -> bytes:
        """32 bytes for a purpose such as "fingerprint": secret in a sealed run, fixed by the purpose in an open one."""

    @abstractmethod
    def verify(self, expect: str | None = None) -> list[Problem]:
        """Checks every file; `expect` is a head noted earlier, which an older folder cannot reproduce."""

    @abstractmethod
    def head(self) -> str | None:
        """Hex digest that commits to the whole state of a sealed run; None in an open one."""

    def close(self) -> None:
        """Ends the use of the store; in a sealed run this signs the head."""

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- JSON, the common case --

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file, indented for people."""
        self.write(name, json.dumps(value, indent=2, ensure_ascii=False).encode())

    def read_json(self, name: str) -> Any:
        """Reads a JSON file."""
        return json.loads(self.read(name))


# ---- open runs -----------------------------------------------------------------------------------------------------

PARTIAL = ".partial"  # what an interrupted write leaves; removed when the run is next opened for writing


class OpenStore(Store):
    """A run in the clear: plain files, atomic writes, no secrecy and no tamper protection.

    Args:
        path: the run folder.
        writable: whether left-overs of an interrupted write may be cleared away.
    """

    sealed = False

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        super().__init__(path)
        if writable:
            for left in sorted(path.rglob("*" + PARTIAL)):
                if left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink(missing_ok=True)

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        target = self._path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + PARTIAL)
        try:
            with partial.open("wb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)

    @contextmanager
    def folder(self, name: str) -> Iterator[Folder]:
        target = self._path(name)
        partial = target.with_name(target.name + PARTIAL)
        old = target.with_name(target.name + ".old" + PARTIAL)
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield _OpenFolder(partial)
            sync_folder(partial)
            if target.exists():
                target.rename(old)
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_folder(target.parent)
        shutil.rmtree(old, ignore_errors=True)

    def write_open(self, name: str, data: bytes) -> None:
        self.write(name, data)

    def remove(self, name: str) -> None:
        target = self._path(name)
        if target.is_dir():
            doomed = target.with_name(target.name + PARTIAL)
            target.rename(doomed)
            shutil.rmtree(doomed)
        else:
            target.unlink(missing_ok=True)

    def journal(self, name: str) -> Journal:
        return OpenJournal(self._path(name))

    @contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        reader = OpenReader(self._path(name))
        try:
            yield reader
        finally:
            reader.close()

    def names(self, prefix: str = "") -> list[str]:
        files = (file for file in self.path.rglob("*") if file.is_file() and file.name != LOCK_FILE)
        names = (file.relative_to(self.path).as_posix() for file in files)
        return sorted(name for name in names if name.startswith(prefix) and PARTIAL not in name)

    def derive_key(self, purpose: str) -> bytes:
        return hashlib.sha256(b"shuyuan open run\0" + purpose.encode()).digest()

    def verify(self, expect: str | None = None) -> list[Problem]:
        if expect is not None:
            return [Problem(".", "an open run has no head to compare with; seal it with a [vault] table")]
        problems = []
        for name in self.names():
            if name.endswith(".jsonl"):
                try:
                    list(OpenJournal(self._path(name)).entries())
                except VaultError as error:
                    problems.append(Problem(name, error.what))
        return problems

    def head(self) -> str | None:
        return None

    def _path(self, name: str) -> Path:
        return self.path / name


class _OpenFolder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, name: str, data: bytes | memoryview) -> None:
        file = self._path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())


class OpenReader:
    """Random access to a plain file."""

    def __init__(self, path: Path) -> None:
        try:
            self._file: io.BufferedReader = path.open("rb")
        except OSError as error:
            raise RunError(
                "run.missing-file",
                f"The file cannot be read ({error.strerror}).",
                where=str(path),
                mend="Make it again with the verb that wrote it, or restore it from a copy.",
            ) from None
        self.size = os.fstat(self._file.fileno()).st_size

    def read_at(self, offset: int, count: int) -> bytes:
        return os.pread(self._file.fileno(), count, offset)

    def close(self) -> None:
        self._file.close()


class OpenJournal:
    """JSON lines in the clear; each line carries a running digest, which detects accidents and no attacker.

    A line is `{"entry": …, "chain": hex}` with chain = SHA-256(previous chain + entry text), first 16 bytes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chain: str | None = None

    def append(self, entry: dict[str, Any]) -> None:
        if self._chain is None:
            self._chain = self._recover()
        text = json.dumps(entry, ensure_ascii=False)
        self._chain = _link(self._chain, text)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as out:
            out.write(f'{{"chain": "{self._chain}", "entry": {text}}}\n'.encode())
            out.flush()
            os.fsync(out.fileno())

    def entries(self) -> Iterator[dict[str, Any]]:
        for text, _ in self._lines():
            yield json.loads(text)

    def _lines(self) -> Iterator[tuple[str, str]]:
        chain = ""
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    return  # a crash in the middle of the last line
                chain = self._check(line, chain, number)
                yield line.decode()[len('{"chain": "", "entry": ') + 32 : -2], chain

    def _check(self, line: bytes, chain: str, number: int) -> str:
        text = line.decode("utf-8", "replace")
        stated, entry = text[11:43], text[len('{"chain": "", "entry": ') + 32 : -2]
        chain = _link(chain, entry)
        if stated != chain:
            raise VaultError(
                "vault.broken-log",
                "The log's chain is broken: a line was changed, lost or moved.",
                where=f"{self._path}:{number}",
                mend="Restore the file from a copy, or delete it to begin a new log.",
            )
        return chain

    def _recover(self) -> str:
        """The last chain value; an unfinished last line is cut off."""
        chain, end = "", 0
        for text, chain in self._lines():  # noqa: B007 - the last value is wanted
            end += len(text.encode()) + 32 + len('{"chain": "", "entry": ') + 2
        if self._path.exists() and self._path.stat().st_size > end:
            with suppress(OSError):
                os.truncate(self._path, end)
        return chain


def _link(chain: str, text: str) -> str:
    return hashlib.sha256((chain + text).encode()).hexdigest()[:32]
