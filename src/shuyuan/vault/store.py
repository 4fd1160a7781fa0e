"""The one way in which rooms read and write a run folder: sealed or open, whole or not at all.

Names are logical and the same in both kinds of run: `data/train-00000.shard`, `metrics.jsonl`. An open run uses them
as they are (`clear_store.py`); a sealed run writes each under a name that says nothing (`sealed_store.py`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from .permit import Permit


@dataclass(frozen=True)
class Problem:
    """One thing wrong that `verify` found.

    Attributes:
        file: a path inside the run folder.
        what: is wrong with it.
    """

    file: str
    what: str


class Reader(Protocol):
    """A file opened for random access."""

    @property
    def size(self) -> int:
        """Bytes of content."""
        ...

    def read_at(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`; fewer only at the end.

        Args:
            offset: from the beginning of the content.
            count: of bytes.

        Raises:
            VaultError: of a sealed file, these bytes were changed.
        """
        ...

    def close(self) -> None:
        """Ends the reading."""
        ...


class Writer(Protocol):
    """A file that is being written, start to end."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Adds content behind what is written.

        Args:
            data: bytes.
        """
        ...


class Journal(Protocol):
    """An append-only log of JSON objects."""

    def append(self, entry: dict[str, Any]) -> None:
        """Adds one line; it is on disk when this returns.

        Args:
            entry: what JSON can hold.
        """
        ...

    def entries(self) -> Iterator[dict[str, Any]]:
        """Every whole line, oldest first; an unfinished last line (a crash) is passed over."""
        ...


# What a file consists of: bytes, or what makes them when their turn comes, so that they need not all be there.
Piece = bytes | memoryview | Callable[[], bytes | memoryview]


class Folder(Protocol):
    """A folder that appears whole, or not at all."""

    def write(self, name: str, *pieces: Piece) -> None:
        """Writes a file that consists of some pieces, one after another.

        Args:
            name: of the file in the folder.
            pieces: its content.
        """
        ...

    def permit(self, name: str) -> Permit:
        """Lets another process write a file of the folder, which must be whole before the folder is.

        Args:
            name: of the file in the folder.
        """
        ...


def made(piece: Piece) -> bytes | memoryview:
    """The bytes of a piece."""
    return piece() if callable(piece) else piece


class Store(ABC):
    """Reads and writes the files of one run. Use as a context manager, or call `close`.

    Args:
        path: the run folder.

    Attributes:
        path: the run folder.
        sealed: whether content is encrypted and authenticated.
    """

    sealed: bool

    def __init__(self, path: Path) -> None:
        self.path = path

    # -- writing --

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Writes one file: the old one stays until the new one is whole and on disk.

        Args:
            name: of the file, with / between folders, such as "data/manifest.json".
            data: its whole content.
        """
        with self.writer(name) as out:
            out.write(data)

    @abstractmethod
    def writer(self, name: str) -> AbstractContextManager[Writer]:
        """Context manager that gives a `Writer`; the file appears at the end, and not at all after an exception.

        Args:
            name: of the file, with / between folders, such as "data/manifest.json".
        """

    @abstractmethod
    def folder(self, name: str) -> AbstractContextManager[Folder]:
        """Context manager that gives a `Folder`; all of its files appear together by one rename, replacing the old.

        Args:
            name: of the folder.
        """

    @abstractmethod
    def write_open(self, name: str, data: bytes) -> None:
        """Writes a file that stays in the clear in a sealed run too (recipe, plan, public report).

        Args:
            name: of the file, with / between folders, such as "data/manifest.json".
            data: its whole content.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Removes a file, or a folder with all that is in it; nothing happens if it is not there.

        Args:
            name: of the file or folder.
        """

    @abstractmethod
    def journal(self, name: str) -> Journal:
        """The append-only log of that name; it begins with its first line.

        Args:
            name: of the log, such as "metrics.jsonl".
        """

    # -- reading --

    @abstractmethod
    def open(self, name: str) -> AbstractContextManager[Reader]:
        """Context manager that gives a `Reader`.

        Args:
            name: of the file, with / between folders, such as "data/manifest.json".

        Raises:
            VaultError: a sealed file was tampered with, or another key sealed it.
            RunError: there is no such file.
        """

    @abstractmethod
    def permit(self, name: str) -> Permit:
        """Lets another process read a file.

        Args:
            name: of the file, with / between folders, such as "data/manifest.json".

        Raises:
            VaultError, RunError: as of `open`, as far as that shows at the beginning of the file.
        """

    def read(self, name: str) -> bytes:
        """The whole content of a file.

        Args:
            name: of the file, with / between folders, such as "data/manifest.json".

        Raises:
            VaultError, RunError: as of `open`.
        """
        with self.open(name) as reader:
            return reader.read_at(0, reader.size)

    @abstractmethod
    def names(self, prefix: str = "") -> list[str]:
        """Logical names of all files that begin with `prefix`, sorted.

        Args:
            prefix: such as "data/"; left out: all.
        """

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name, or a folder with files in it.

        Args:
            name: of a file or folder.
        """
        return any(found == name or found.startswith(name + "/") for found in self.names(name))

    # -- secrets and checks --

    @abstractmethod
    def derive_key(self, purpose: str) -> bytes:
        """32 bytes for a purpose such as "fingerprint": secret in a sealed run, fixed by the purpose in an open one.

        Args:
            purpose: another one gives other bytes.
        """

    @abstractmethod
    def verify(self, expect: str | None = None) -> list[Problem]:
        """Checks every file.

        Args:
            expect: a head noted earlier, which an older folder cannot reproduce; None: any state that is whole in itself.

        Returns:
            What is wrong, by file; nothing where all holds.
        """

    @abstractmethod
    def head(self) -> str | None:
        """Hex digest that commits to the whole state of a sealed run; None in an open one."""

    def close(self) -> None:  # noqa: B027 - a run in the clear has nothing to do here
        """Ends the use of the store; a sealed run notes how far its journals go, and signs its head."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- JSON, the common case --

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file, indented for people.

        Args:
            name: of the file, with / between folders, such as "data/manifest.json".
            value: what JSON can hold.
        """
        self.write(name, json.dumps(value, indent=2, ensure_ascii=False).encode())

    def read_json(self, name: str) -> Any:
        """Reads a JSON file.

        Args:
            name: of the file, with / between folders, such as "data/manifest.json".
        """
        return json.loads(self.read(name))
