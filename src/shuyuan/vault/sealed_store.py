"""Sealed runs: every file encrypted and authenticated, under a name that says nothing; what stays open is watched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import RunError, VaultError
from ..runs import RECIPE_FILE
from . import checks
from .clear_store import entry_to_json
from .index import Index
from .names import VAULT_FILE, check_name
from .permit import Permit
from .reading import Shelf
from .run_state import Fresh, RunState
from .seal import DataKey
from .store import Folder, Journal, Piece, Problem, Reader, Store, Writer, made

_T = TypeVar("_T")


class SealedStore(Store):
    """A sealed run.

    Args:
        path: the run folder.
        key: its data key.
        writable: whether this process holds the run's lock and may write.

    Raises:
        VaultError: the index or its head cannot be trusted.
    """

    sealed = True

    def __init__(self, path: Path, key: DataKey, *, writable: bool = True) -> None:
        super().__init__(path)
        self.key = key
        self.state = RunState(path, key, writable=writable)

    @property
    def shelf(self) -> Shelf:
        """Finds and opens what there is."""
        return self.state.shelf

    @property
    def index(self) -> Index:
        """The records of the run."""
        return self.state.index

    # -- writing --

    @contextmanager
    def writer(self, name: str) -> Iterator[Writer]:
        fresh = self.state.begin(check_name(name))
        try:
            assert fresh.out is not None  # this process writes it
            yield fresh.out
            fresh.out.finish()
            self.state.commit({"put": [fresh.record]})
        except BaseException:
            self.state.discard([fresh])
            raise

    @contextmanager
    def folder(self, name: str) -> Iterator[Folder]:
        folder = _SealedFolder(self.state, check_name(name))
        try:
            yield folder
            old = [known for known in self._below(name) if known not in folder.files]
            self.state.commit({"put": [fresh.record for fresh in folder.files.values()], "drop": old})
        except BaseException:
            self.state.discard(folder.files.values())
            raise

    def write_open(self, name: str, data: bytes) -> None:
        self.state.replace_clear(check_name(name), data)

    def remove(self, name: str) -> None:
        gone = [known for known in (check_name(name), *self._below(name)) if known in self.index.entries]
        if gone:
            self.state.commit({"drop": gone})

    def journal(self, name: str) -> Journal:
        return SealedJournal(self, check_name(name))

    # -- reading --

    @contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        check_name(name)
        reader = self._newest(partial(self._open, name))
        try:
            yield reader
        finally:
            reader.close()

    def permit(self, name: str) -> Permit:
        return self._newest(partial(self._permit, check_name(name)))

    def lines(self, name: str) -> list[bytes]:
        """Content of a journal's lines; none if there is no such journal."""
        return self._newest(partial(self._lines, name))

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self.index.entries if name.startswith(prefix) and name != VAULT_FILE)

    def _below(self, folder: str) -> list[str]:
        return [name for name in self.index.entries if name.startswith(folder + "/")]

    def _open(self, name: str) -> Reader:
        return self.shelf.open(name)

    def _permit(self, name: str) -> Permit:
        return self.shelf.permit(name)

    def _lines(self, name: str) -> list[bytes]:
        entry = self.index.entries.get(name)
        return self.shelf.log(name, entry)[1] if entry is not None and entry.kind == "log" else []

    def _newest(self, call: Callable[[], _T]) -> _T:
        """Calls; a reader beside a writer whose file has just been replaced looks at the index again."""
        while True:
            try:
                return call()
            except (VaultError, RunError):
                if self.state.writable:
                    raise
                shelf = self.state.load()
                if shelf.index.heads == self.index.heads:
                    raise
                self.state.shelf = shelf

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
                shelf = self.state.load()
            except VaultError as error:
                return [checks.problem(self.path, error)]
            problems = checks.verify(shelf, expect)
            if not problems or self.state.writable or self.state.load().index.heads == shelf.index.heads:
                break  # otherwise somebody is writing meanwhile
        return problems

    def head(self) -> str:
        self.state.settle_journals()
        return self.index.heads[-1].digest.hex()

    def close(self) -> None:
        self.state.close()


class _SealedFolder:
    def __init__(self, state: RunState, name: str) -> None:
        self._state = state
        self._name = name
        self.files: dict[str, Fresh] = {}

    def write(self, name: str, *pieces: Piece) -> None:
        fresh = self._state.begin(check_name(f"{self._name}/{name}"))
        self._add(fresh)
        assert fresh.out is not None  # this process writes it
        for piece in pieces:
            fresh.out.write(made(piece))
        fresh.out.finish()

    def permit(self, name: str) -> Permit:
        fresh, permit = self._state.begin_elsewhere(check_name(f"{self._name}/{name}"))
        self._add(fresh)
        return permit

    def _add(self, fresh: Fresh) -> None:
        before = self.files.pop(fresh.name, None)
        self.files[fresh.name] = fresh
        if before is not None:
            before.abandon()


class SealedJournal:
    """A sealed log of JSON objects."""

    def __init__(self, store: SealedStore, name: str) -> None:
        self._store = store
        self._name = name

    def append(self, entry: dict[str, Any]) -> None:
        self._store.state.append_line(self._name, entry_to_json(entry))

    def entries(self) -> Iterator[dict[str, Any]]:
        return (json.loads(line) for line in self._store.lines(self._name))
