"""The state of a sealed run in memory and on disk, and how it goes from one whole state to the next.

A write makes a new file under a new name. It counts from the moment at which its record is in the index; then what it
replaces is removed, and the head is signed. So whatever breaks off in between leaves the state before or the state
after, and files that no record names, which the next one who opens the run for writing clears away.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MachineError, VaultError
from ..runs import Run
from . import disk
from .index import KINDS, Index
from .journal import SealedLog
from .names import PARTIAL, epoch_of, is_ours, sealed_path
from .permit import Permit
from .reading import Shelf, digest_of
from .seal import DataKey, Header, Role, SealedWriter


@dataclass
class Fresh:
    """A file that is being written and that the index does not know yet.

    Args:
        name: logical name.
        header: what it begins with.
        path: where it lies.
        out: takes its content; None where another process writes it.
    """

    name: str
    header: Header
    path: Path
    out: SealedWriter | None

    @property
    def record(self) -> list[Any]:
        """What the index is to say of it."""
        return [self.name, self.header.generation, self.header.salt.hex()]

    def abandon(self) -> None:
        """Takes the file away."""
        if self.out is not None:
            self.out.abandon()
        self.path.unlink(missing_ok=True)


class RunState:
    """What a sealed run holds, kept the same in memory and on disk.

    Args:
        path: the run folder.
        key: its data key.
        writable: whether this process holds the run's lock. It mends first what an interrupted writer left.

    Attributes:
        shelf: finds and opens what there is.
        writable: whether records may be added; false after `close`.

    Raises:
        VaultError: the index or its head cannot be trusted.
    """

    def __init__(self, path: Path, key: DataKey, *, writable: bool) -> None:
        self._path = path
        self._key = key
        self.writable = writable
        self._lock = threading.RLock()
        self._logs: dict[str, SealedLog] = {}  # read to their end, ready for the next line
        self._unfinished = False  # a step was broken off: memory and disk may differ, and the disk is right
        self.shelf = self.load()
        if writable:
            self._mend()
            self._sweep()

    @property
    def index(self) -> Index:
        """The records, and what they come to."""
        return self.shelf.index

    # -- one state after the other --

    def load(self) -> Shelf:
        """The state as it is on disk."""
        index = Index(self._path, self._key)
        try:
            index.load()
        except VaultError:
            if self.writable:
                raise
            index = Index(self._path, self._key)  # a writer may have been between two steps
            index.load(writer_at_work=Run(self._path).is_locked())
        return Shelf(self._path, self._key, index)

    def start(self) -> None:
        """Notes, before the first step of a session, that from here on a crash may leave something unfinished."""
        if self.index.clean or self._unfinished:
            self.commit({})

    def commit(self, record: dict[str, Any]) -> None:
        """Adds a record. When this returns, or is broken off after the record is on disk, it has happened."""
        with self._step():
            self._add(record)

    def replace_clear(self, name: str, data: bytes) -> None:
        """Replaces a file that stays in the clear."""
        digest = hashlib.sha256(data).hexdigest()
        with self._step():
            self.index.append({"intent": [name, digest]})
            disk.replace_file(self._path / name, data)
            self._add({"open": [[name, self.index.next_generation(name), digest]]})

    def append_line(self, name: str, content: bytes) -> None:
        """Adds a line to a journal, which begins with its first line."""
        with self._lock:
            self.start()
            entry = self.index.entries.get(name)
            if entry is None or entry.kind != "log":
                self._begin_log(name, content)
                return
            if name not in self._logs:
                self._logs[name], _ = self.shelf.log(name, entry)
            self._unfinished = True
            self._logs[name].append(content)
            self._unfinished = False

    def settle_journals(self) -> None:
        """Has the index note how far the journals go."""
        with self._lock:
            if self.writable and self._anchors():
                self.commit({})

    def close(self) -> None:
        """Ends the session in good order."""
        with self._lock:
            if self.writable and (not self.index.clean or self._unfinished):
                self.commit({"clean": True})
            self.writable = False

    @contextmanager
    def _step(self) -> Iterator[None]:
        """While this lasts, memory and disk may differ; if it is broken off, the disk is read again before the next step."""
        with self._lock:
            self._may_write()
            if self._unfinished:
                self.shelf = self.load()
                self._mend()
            self._unfinished = True
            yield
            self._unfinished = False

    def _may_write(self) -> None:
        if not self.writable:
            raise RuntimeError("the store is closed, or was opened for reading only")

    def _add(self, record: dict[str, Any]) -> None:
        for name in (*record.get("drop", []), *(put[0] for kind in KINDS for put in record.get(kind, []))):
            self._logs.pop(name, None)
        anchors = [*record.get("anchor", []), *self._anchors()]
        self.index.append({**record, "anchor": anchors} if anchors else record)
        self._settle()

    def _settle(self) -> None:
        """Removes what the newest records made old, then lets the head say so."""
        doomed = []
        for name, entry in self.index.superseded:
            now = self.index.entries.get(name)
            if entry.kind != "open" or now is None or now.kind != "open":
                doomed.append(self._path / self.shelf.place(name, entry))
        disk.remove_files(doomed)
        self.index.sign()

    def _anchors(self) -> list[list[Any]]:
        marks = (
            (name, log.mark) for name, log in self._logs.items() if log.mark != self.index.entries[name].mark
        )
        return [[name, mark.count, mark.tag.hex()] for name, mark in marks]

    # -- files that the index does not know yet --

    def begin(self, name: str) -> Fresh:
        """Begins a sealed file that counts as soon as it is committed."""
        self.start()
        header, path = self._header(name, Role.FILE)
        return Fresh(name, header, path, SealedWriter(path, self._key, header, name))

    def begin_elsewhere(self, name: str) -> tuple[Fresh, Permit]:
        """The same for a file that another process writes."""
        self.start()
        header, path = self._header(name, Role.FILE)
        return Fresh(name, header, path, None), self.shelf.permit_of(path, header, name)

    def discard(self, files: Iterable[Fresh]) -> None:
        """Takes away files of a write that was broken off, unless it had happened already."""
        with self._lock, suppress(VaultError, MachineError, OSError):
            if self._unfinished:
                self.commit({})
            for fresh in files:
                entry = self.index.entries.get(fresh.name)
                if entry is None or entry.identity != fresh.header.salt.hex():
                    fresh.abandon()

    def _header(self, name: str, role: Role) -> tuple[Header, Path]:
        self._may_write()
        header = Header(role, self._key.run, self._key.epoch, self.index.next_generation(name))
        return header, self._path / sealed_path(name, header.run, header.salt)

    def _begin_log(self, name: str, content: bytes) -> None:
        header, path = self._header(name, Role.JOURNAL)
        log = SealedLog(path, self._key, header, name)
        log.create(content)
        anchor = [name, log.mark.count, log.mark.tag.hex()]
        self.commit({"log": [[name, header.generation, header.salt.hex()]], "anchor": [anchor]})
        self._logs[name] = log

    # -- after a crash --

    def _mend(self) -> None:
        """Finishes or undoes the step in which a writer was broken off."""
        if self.index.pending is not None:
            name, digest = self.index.pending
            happened = digest_of(self._path / name) == digest
            self.index.append(
                {"open": [[name, self.index.next_generation(name), digest]]} if happened else {}
            )
        if self.index.behind:
            self._settle()
        self._logs = {}
        if not self.index.clean:
            logs = [(name, entry) for name, entry in self.index.entries.items() if entry.kind == "log"]
            self._logs = {name: self.shelf.log(name, entry)[0] for name, entry in logs}
            for log in self._logs.values():
                log.trim()

    def _sweep(self) -> None:
        """Removes what interrupted writes and re-encryptions left. Older states that were put back stay, as evidence."""
        known = {self.shelf.place(name, entry) for name, entry in self.index.entries.items()}
        past = {identity[:32] for identity in self.index.past}
        doomed = list(self._path.rglob("*" + PARTIAL))
        doomed += [
            file for file in self._path.glob("*") if epoch_of(file.name) not in (None, self._key.epoch)
        ]
        for file in self._path.glob("*/*"):
            place = file.relative_to(self._path).as_posix()
            if place not in known and file.name[:32] not in past and is_ours(file, self._key.run):
                doomed.append(file)
        disk.remove_files([file for file in doomed if file.is_file()])
