"""Sealed runs: every file under a name that says nothing, every write a record in the index, every state whole.

A write makes a new file under a new name. It counts from the moment at which its record is in the index, and then the
old file goes. So whatever breaks off in between leaves the state before or the state after, and files that nobody knows,
which the next one who opens the run for writing clears away.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import MachineError, RunError, VaultError
from ..run import RECIPE_FILE, Run
from . import checks, disk
from .clear_store import entry_to_json
from .index import KINDS, Index
from .journal import SealedLog
from .names import PARTIAL, VAULT_FILE, check_name, epoch_of, is_ours, sealed_path
from .reading import Shelf, digest_of
from .seal import DataKey, Header, Role, SealedWriter
from .store import Folder, Journal, Problem, Reader, Store, Writer

_T = TypeVar("_T")


@dataclass
class _Fresh:
    """A file that is being written and that the index does not know yet."""

    name: str
    header: Header
    out: SealedWriter

    @property
    def record(self) -> list[Any]:
        return [self.name, self.header.generation, self.header.salt.hex()]


class SealedStore(Store):
    """A sealed run.

    Args:
        path: the run folder.
        key: its data key.
        writable: whether this process holds the run's lock and may write; it mends first what an interrupted writer left.

    Raises:
        VaultError: the index or its head cannot be trusted.
    """

    sealed = True

    def __init__(self, path: Path, key: DataKey, *, writable: bool = True) -> None:
        super().__init__(path)
        self.key = key
        self._writable = writable
        self._lock = threading.RLock()
        self._logs: dict[str, SealedLog] = {}  # read to their end, ready for the next line
        self._unfinished = False  # a commit was broken off: memory and disk may differ
        self.shelf = self._load()
        if writable:
            self._mend()
            self._sweep()

    # -- writing --

    @contextmanager
    def writer(self, name: str) -> Iterator[Writer]:
        fresh = self.begin(check_name(name))
        try:
            yield fresh.out
            fresh.out.finish()
            self._commit({"put": [fresh.record]})
        except BaseException:
            self._discard([fresh])
            raise

    @contextmanager
    def folder(self, name: str) -> Iterator[Folder]:
        folder = _SealedFolder(self, check_name(name))
        try:
            yield folder
            old = [known for known in self.index.entries if known.startswith(name + "/") and known not in folder.files]
            self._commit({"put": [fresh.record for fresh in folder.files.values()], "drop": old})
        except BaseException:
            self._discard(folder.files.values())
            raise

    def write_open(self, name: str, data: bytes) -> None:
        self.replace_clear(check_name(name), data)

    def replace_clear(self, name: str, data: bytes) -> None:
        """As `write_open`, for vault.json too."""
        digest = hashlib.sha256(data).hexdigest()
        with self._committing():
            self.index.append({"intent": [name, digest]})
            disk.replace_file(self.path / name, data)
            self._add({"open": [[name, self.index.next_generation(name), digest]]})

    def remove(self, name: str) -> None:
        check_name(name)
        gone = [known for known in self.names() if known == name or known.startswith(name + "/")]
        if gone:
            self._commit({"drop": gone})

    def journal(self, name: str) -> Journal:
        return SealedJournal(self, check_name(name))

    def append_line(self, name: str, content: bytes) -> None:
        """Adds a line to a journal, which begins with its first line."""
        with self._lock:
            self.start()
            entry = self.index.entries.get(name)
            if entry is None or entry.kind != "log":
                self._begin_log(name, content)
                return
            if name not in self._logs:
                self._logs[name], _ = self.shelf.log(name, self.index.entries[name])
            self._unfinished = True
            self._logs[name].append(content)
            self._unfinished = False

    # -- reading --

    @property
    def index(self) -> Index:
        """The state of the run."""
        return self.shelf.index

    @contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        check_name(name)
        reader = self._newest(partial(self._open, name))
        try:
            yield reader
        finally:
            reader.close()

    def lines(self, name: str) -> list[bytes]:
        """Content of a journal's lines; none if there is no such journal."""
        return self._newest(partial(self._lines, name))

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self.index.entries if name.startswith(prefix) and name != VAULT_FILE)

    # -- secrets and checks --

    def derive_key(self, purpose: str) -> bytes:
        info = b"shuyuan/1/purpose\0" + purpose.encode()
        return HKDF(hashes.SHA256(), 32, self.key.run, info).derive(self.index.secret)

    def check_steering(self) -> None:
        """Makes sure of the files in the clear that steer a run: the recipe and the wrapped keys.

        Raises:
            VaultError: one is changed, gone, or an older one that was put back.
        """
        for name in (RECIPE_FILE, VAULT_FILE):
            if name in self.index.entries:
                self._newest(partial(self._open, name)).close()

    def verify(self, expect: str | None = None) -> list[Problem]:
        for _ in range(5):
            try:
                shelf = self._load()
            except VaultError as error:
                return [checks.problem(self.path, error)]
            problems = checks.verify(shelf, expect)
            if not problems or self._writable or self._load().index.heads == shelf.index.heads:
                break  # otherwise somebody is writing meanwhile
        return problems

    def head(self) -> str | None:
        with self._lock:
            if self._writable and self._anchors():
                self._commit({})
            return self.index.heads[-1].digest.hex()

    def close(self) -> None:
        with self._lock:
            if self._writable and (not self.index.clean or self._unfinished):
                self._commit({"clean": True})
            self._writable = False

    def retire(self) -> None:
        """Ends the use of a store whose run has changed over to another data key: nothing more is written."""
        self._writable = False

    # -- one state after the other --

    def _load(self) -> Shelf:
        index = Index(self.path, self.key)
        try:
            index.load()
        except VaultError:
            if self._writable:
                raise
            index = Index(self.path, self.key)  # a writer may have been between two steps
            index.load(writer_at_work=Run(self.path).is_locked())
        return Shelf(self.path, self.key, index)

    def _mend(self) -> None:
        """Brings what a writer left that was broken off to the state before or after its last write."""
        if self.index.pending is not None:
            name, digest = self.index.pending
            happened = digest_of(self.path / name) == digest
            self.index.append({"open": [[name, self.index.next_generation(name), digest]]} if happened else {})
        if self.index.behind:
            self._settle()
        self._logs = {}
        if not self.index.clean:
            logs = [(name, entry) for name, entry in self.index.entries.items() if entry.kind == "log"]
            self._logs = {name: self.shelf.log(name, entry)[0] for name, entry in logs}
            for log in self._logs.values():
                log.trim()

    @contextmanager
    def _committing(self) -> Iterator[None]:
        """While this lasts, memory and disk may differ; if it is broken off, the disk is right and is read again."""
        with self._lock:
            self._may_write()
            if self._unfinished:
                self.shelf = self._load()
                self._mend()
            self._unfinished = True
            yield
            self._unfinished = False

    def start(self) -> None:
        """Notes, before the first step of a session, that from here on a crash may leave something unfinished."""
        if self.index.clean or self._unfinished:
            self._commit({})

    def _may_write(self) -> None:
        if not self._writable:
            raise RuntimeError("the store is closed, or was opened for reading only")

    def _commit(self, record: dict[str, Any]) -> None:
        with self._committing():
            self._add(record)

    def _add(self, record: dict[str, Any]) -> None:
        for name in (*record.get("drop", []), *(put[0] for kind in KINDS for put in record.get(kind, []))):
            self._logs.pop(name, None)
        anchors = self._anchors()
        self.index.append({**record, "anchor": [*record.get("anchor", []), *anchors]} if anchors else record)
        self._settle()

    def _settle(self) -> None:
        """Removes what the newest records made old, then lets the head say so."""
        doomed = []
        for name, entry in self.index.superseded:
            now = self.index.entries.get(name)
            if entry.kind != "open" or now is None or now.kind != "open":
                doomed.append(self.path / self.shelf.place(name, entry))
        disk.remove_files(doomed)
        self.index.sign()

    def _anchors(self) -> list[list[Any]]:
        marks = ((name, log.mark) for name, log in self._logs.items() if log.mark != self.index.entries[name].mark)
        return [[name, mark.count, mark.tag.hex()] for name, mark in marks]

    def _open(self, name: str) -> Reader:
        return self.shelf.open(name)

    def _lines(self, name: str) -> list[bytes]:
        entry = self.index.entries.get(name)
        return self.shelf.log(name, entry)[1] if entry is not None and entry.kind == "log" else []

    def _newest(self, call: Callable[[], _T]) -> _T:
        """Calls; a reader beside a writer whose file has just been replaced looks at the index again."""
        while True:
            try:
                return call()
            except (VaultError, RunError):
                if self._writable:
                    raise
                shelf = self._load()
                if shelf.index.heads == self.index.heads:
                    raise
                self.shelf = shelf

    # -- files that the index does not know yet --

    def _header(self, name: str, role: Role) -> tuple[Header, Path]:
        self._may_write()
        header = Header(role, self.key.run, self.key.epoch, self.index.next_generation(name))
        return header, self.path / sealed_path(name, header.run, header.salt)

    def begin(self, name: str) -> _Fresh:
        """Begins a sealed file that counts as soon as it is committed."""
        self.start()
        header, path = self._header(name, Role.FILE)
        return _Fresh(name, header, SealedWriter(path, self.key, header, name))

    def _begin_log(self, name: str, content: bytes) -> None:
        header, path = self._header(name, Role.JOURNAL)
        log = SealedLog(path, self.key, header, name)
        log.create(content)
        anchor = [name, log.mark.count, log.mark.tag.hex()]
        self._commit({"log": [[name, header.generation, header.salt.hex()]], "anchor": [anchor]})
        self._logs[name] = log

    def _discard(self, files: Iterable[_Fresh]) -> None:
        """Takes away files of a write that was broken off, unless it had happened already."""
        with self._lock, suppress(VaultError, MachineError, OSError):
            if self._unfinished:
                self._commit({})
            for fresh in files:
                entry = self.index.entries.get(fresh.name)
                if entry is None or entry.identity != fresh.header.salt.hex():
                    fresh.out.abandon()

    def _sweep(self) -> None:
        """Removes what interrupted writes and re-encryptions left. Older states that were put back stay, as evidence."""
        known = {self.shelf.place(name, entry) for name, entry in self.index.entries.items()}
        past = {identity[:32] for identity in self.index.past}
        doomed = list(self.path.rglob("*" + PARTIAL))
        for file in self.path.glob("*"):
            if epoch_of(file.name) not in (None, self.key.epoch):
                doomed.append(file)
        for file in self.path.glob("*/*"):
            place = file.relative_to(self.path).as_posix()
            if place not in known and file.name[:32] not in past and is_ours(file, self.key.run):
                doomed.append(file)
        disk.remove_files([file for file in doomed if file.is_file()])


class _SealedFolder:
    def __init__(self, store: SealedStore, name: str) -> None:
        self._store = store
        self._name = name
        self.files: dict[str, _Fresh] = {}

    def write(self, name: str, data: bytes | memoryview) -> None:
        fresh = self._store.begin(check_name(f"{self._name}/{name}"))
        before = self.files.pop(fresh.name, None)
        self.files[fresh.name] = fresh
        if before is not None:
            before.out.abandon()
        fresh.out.write(data)
        fresh.out.finish()


class SealedJournal:
    """A sealed log of JSON objects."""

    def __init__(self, store: SealedStore, name: str) -> None:
        self._store = store
        self._name = name

    def append(self, entry: dict[str, Any]) -> None:
        self._store.append_line(self._name, entry_to_json(entry))

    def entries(self) -> Iterator[dict[str, Any]]:
        return (json.loads(line) for line in self._store.lines(self._name))
