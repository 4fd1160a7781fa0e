"""Runs in the clear: plain files, atomic writes, no secrecy and no protection from tampering."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import VaultError, cannot_read
from ..runs import LOCK_FILE, sync_folder
from . import disk
from .clear_file import OpenReader, OpenWriter
from .names import PARTIAL, check_name
from .permit import Permit
from .store import Folder, Journal, Piece, Problem, Reader, Store, Writer, made

_OLD = ".old" + PARTIAL  # a folder that is being replaced


class OpenStore(Store):
    """A run in the clear.

    Args:
        path: the run folder.
        writable: whether left-overs of an interrupted write may be cleared away.
    """

    sealed = False

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        super().__init__(path)
        self._journals: dict[str, OpenJournal] = {}
        if writable:
            with disk.writing(path):
                _recover(path)

    @contextmanager
    def writer(self, name: str) -> Iterator[Writer]:
        target = self._path(name)
        partial = target.with_name(target.name + PARTIAL)
        with disk.writing(target):
            disk.make_folder(target.parent)
            out = partial.open("wb")
        try:
            yield OpenWriter(out, target)
            with disk.writing(target):
                out.flush()
                os.fsync(out.fileno())
                out.close()
                partial.replace(target)
        except BaseException:
            with suppress(OSError):
                out.close()
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)

    @contextmanager
    def folder(self, name: str) -> Iterator[Folder]:
        target = self._path(name)
        partial, old = target.with_name(target.name + PARTIAL), target.with_name(target.name + _OLD)
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)
        with disk.writing(target):
            disk.make_folder(partial)
        try:
            yield _OpenFolder(partial, name)
            with disk.writing(target):
                for folder, _, _ in os.walk(partial):
                    sync_folder(Path(folder))
                if target.exists():
                    target.rename(old)
                partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            if old.exists() and not target.exists():
                with suppress(OSError):  # else the next writer does it
                    old.rename(target)
            raise
        sync_folder(target.parent)
        shutil.rmtree(old, ignore_errors=True)

    def write_open(self, name: str, data: bytes) -> None:
        self.write(name, data)

    def remove(self, name: str) -> None:
        target = self._path(name)
        with disk.writing(target):
            if target.is_dir():
                doomed = target.with_name(target.name + PARTIAL)
                target.rename(doomed)
                shutil.rmtree(doomed)
            else:
                target.unlink(missing_ok=True)
            sync_folder(target.parent)  # or a power cut would bring it back, be it a secret
        for known in [known for known in self._journals if known == name or known.startswith(name + "/")]:
            del self._journals[known]

    def journal(self, name: str) -> Journal:
        return self._journals.setdefault(name, OpenJournal(self._path(name)))

    @contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        reader = OpenReader(self._path(name))
        try:
            yield reader
        finally:
            reader.close()

    def permit(self, name: str) -> Permit:
        return Permit(str(self._path(name).absolute()), name)

    def names(self, prefix: str = "") -> list[str]:
        files = (
            Path(folder, file) for folder, _, files in os.walk(self.path, onerror=_closed) for file in files
        )
        names = (
            file.relative_to(self.path).as_posix()
            for file in files
            if file.is_file() and file.name != LOCK_FILE
        )
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
        return self.path / check_name(name)


def _closed(error: OSError) -> None:
    """A folder that may not be looked into is not one without files: training would begin again."""
    if isinstance(error, PermissionError):
        raise cannot_read(error, error.filename) from None


def _recover(folder: Path) -> None:
    """Clears away what interrupted writes left, and puts back a folder that was caught between old and new."""
    for left in sorted(folder.rglob("*" + PARTIAL)):
        target = left.with_name(left.name.removesuffix(_OLD))
        if left.name.endswith(_OLD) and not target.exists():
            left.rename(target)
        elif left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


class _OpenFolder:
    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    def write(self, name: str, *pieces: Piece) -> None:
        file = self._path / check_name(name)
        with disk.writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as out:
                out.writelines(made(piece) for piece in pieces)
                out.flush()
                os.fsync(out.fileno())

    def permit(self, name: str) -> Permit:
        return Permit(str((self._path / check_name(name)).absolute()), f"{self._name}/{name}")


class OpenJournal:
    """JSON lines in the clear; each carries a running digest, which detects accidents and no attacker.

    A line is `{…, "chain": hex}`; chain is the first half of SHA-256 over the chain before and the line without its own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chain: str | None = None

    def append(self, entry: dict[str, Any]) -> None:
        body = entry_to_json(entry)[:-1]
        first = self._chain is None
        if self._chain is None:
            self._chain = self._recover()
        before, self._chain = self._chain, None  # after an exception the end of the file is looked at again
        chain = _link(before, body)
        with disk.writing(self._path):
            disk.make_folder(self._path.parent)
            with self._path.open("ab") as out:
                out.write(body + (b", " if entry else b"") + b'"chain": "' + chain.encode() + b'"}\n')
                out.flush()
                os.fsync(out.fileno())
            if first:  # a power cut would take a new log away with all its lines
                sync_folder(self._path.parent)
        self._chain = chain

    def entries(self) -> Iterator[dict[str, Any]]:
        for number, (body, _, _) in enumerate(self._lines(), 1):
            try:
                entry = json.loads(body + b"}")
            except (ValueError, RecursionError):
                raise self._broken(number) from None
            yield entry

    def _lines(self) -> Iterator[tuple[bytes, str, int]]:
        """(entry without its closing brace, chain, bytes so far) of every whole line."""
        chain, end = "", 0
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    return  # a crash in the middle of the last line
                found = _LINE.fullmatch(line)
                if found is None or _link(chain, found[1]) != found[2].decode():
                    raise self._broken(number)
                chain, end = found[2].decode(), end + len(line)
                yield found[1], chain, end

    def _recover(self) -> str:
        """The last chain value; an unfinished last line is cut off."""
        chain, end = "", 0
        for _, chain, end in self._lines():  # noqa: B007 - the last values are wanted
            pass
        if self._path.exists() and self._path.stat().st_size > end:
            with disk.writing(self._path):
                os.truncate(self._path, end)
        return chain

    def _broken(self, number: int) -> VaultError:
        return VaultError(
            "vault.broken-log",
            "The log's chain is broken: a line was changed, lost or moved.",
            where=f"{self._path}:{number}",
            mend="Restore the file from a copy, or delete it to begin a new log.",
        )


_LINE = re.compile(rb'(\{|\{.+(?=, ))(?:, )?"chain": "([0-9a-f]{32})"\}\n', re.DOTALL)


def _link(chain: str, body: bytes) -> str:
    return hashlib.sha256(chain.encode() + body).hexdigest()[:32]


def entry_to_json(entry: dict[str, Any]) -> bytes:
    """One line of JSON, readable in every script; halves of surrogate pairs, which UTF-8 lacks, are escaped.

    Args:
        entry: what JSON can hold.

    Raises:
        ValueError: it has a field "chain", which belongs to the log.
    """
    if "chain" in entry:
        raise ValueError('the field "chain" belongs to the log')
    try:
        return json.dumps(entry, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(entry).encode()
