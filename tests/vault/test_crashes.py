"""kill -9 and power cuts between any two steps on the disk: afterwards the run is as before or as after, and whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from shuyuan import vault
from shuyuan.errors import VaultError
from shuyuan.runs import Run
from shuyuan.vault import SealedStore

from .crashes import PowerCut, at_every_step
from .tampering import put, snapshot

State = dict[str, object]
RECIPE = b'name = "x"\n[data]\nsource = "stdlib"\n'


def state(store: vault.Store) -> State:
    """All that the run holds, as it is read back."""
    found: State = {}
    for name in store.names():
        found[name] = list(store.journal(name).entries()) if name.endswith(".jsonl") else store.read(name)
    return found


def folder_of(store: vault.Store, name: str, files: dict[str, bytes]) -> None:
    with store.folder(name) as folder:
        for file, content in files.items():
            folder.write(file, content)


def broken_off(store: vault.Store) -> None:
    with pytest.raises(ZeroDivisionError), store.writer("data/x") as out:
        out.write(b"half")
        _ = 1 / 0


OPERATIONS: list[Callable[[vault.Store], None]] = [
    lambda store: store.write_open("recipe.toml", RECIPE),
    lambda store: store.write("data/x", b"one" * 40),
    lambda store: store.journal("metrics.jsonl").append({"n": 1}),
    lambda store: store.write("data/x", b"two"),
    lambda store: store.journal("metrics.jsonl").append({"n": 2}),
    lambda store: folder_of(store, "model", {"a": b"1", "b": b"2", "c": b"3"}),
    lambda store: store.write_open("recipe.toml", b"seed = 2\n" + RECIPE),
    lambda store: store.journal("metrics.jsonl").append({"n": 3}),
    lambda store: folder_of(store, "model", {"a": b"4", "b": b"5"}),
    broken_off,
    lambda store: store.remove("model"),
    lambda store: store.write("scores.json", b"{}"),
    lambda store: store.journal("metrics.jsonl").append({"n": 4}),
    lambda store: store.close(),
]


class Crashes:
    """Collects what a crash at each step would leave: all that was written, or only what is certain after a power cut."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._power = PowerCut(folder)
        self._seen: set[str] = set()
        self.left: list[dict[str, bytes]] = []

    def during(self, work: Callable[[], object]) -> list[dict[str, bytes]]:
        """Does the work; returns the distinct states, each a folder's files."""
        self.left = []
        with at_every_step(self._look, self._power):
            work()
        return self.left

    @property
    def lasting(self) -> dict[str, bytes]:
        """What a power cut would leave now."""
        return self._power.files()

    def _look(self, step: str) -> None:
        for files in (snapshot(self._folder), self._power.files()):
            mark = repr(sorted(files.items()))
            if mark not in self._seen:
                self._seen.add(mark)
                self.left.append(files)


def all_crashes(store: SealedStore) -> tuple[list[tuple[int, dict[str, bytes]]], list[State]]:
    """Does all operations. Returns (operation, what a crash in it leaves), and the state before and after each."""
    crashes, found, states = Crashes(store.path), [], [state(store)]
    for number, operation in enumerate(OPERATIONS):
        found += [(number, files) for files in crashes.during(partial(operation, store))]
        states.append(state(store))
    return found, states


def test_every_crash_leaves_one_whole_state(
    begin: Callable[[], SealedStore], tmp_path: Path, key: str
) -> None:
    crashes, states = all_crashes(begin())
    assert len(crashes) > 120
    after = Run(tmp_path / "after")
    for done, files in crashes:
        put(after.path, files)
        allowed = (states[done], states[done + 1])
        reading = vault.open_store(after, key, writable=False)
        assert reading.verify() == []
        assert state(reading) in allowed
        assert snapshot(after.path) == files  # a reader changes nothing
        with vault.open_store(after, key) as writing:
            assert state(writing) in allowed
            assert writing.verify() == []
            kept = state(writing)
            writing.write("data/next", b"goes on")
            writing.journal("metrics.jsonl").append({"n": "next"})
        with vault.open_store(after, key) as again:
            assert again.verify() == []
            log = [*kept.get("metrics.jsonl", []), {"n": "next"}]  # type: ignore[misc]
            assert state(again) == {**kept, "data/next": b"goes on", "metrics.jsonl": log}
        shelf = again.shelf  # type: ignore[attr-defined]
        known = {shelf.place(name, entry) for name, entry in shelf.index.entries.items()}
        assert set(snapshot(after.path)) == known | {
            "vault-1.index",
            "vault-1.head",
        }  # and left-overs are gone
        shutil.rmtree(after.path)


def test_every_crash_of_an_open_run_leaves_each_file_whole(tmp_path: Path) -> None:
    """Also where nothing is sealed: whoever opens the run next finds the state before or after, and never half of a file; and once
    an operation has returned, that after it."""
    store, left_behind = vault.OpenStore(tmp_path / "run"), tmp_path / "after"
    store.path.mkdir()
    crashes, before, looked = Crashes(store.path), state(store), 0
    for operation in OPERATIONS[:-1]:
        left = crashes.during(partial(operation, store))
        after = state(store)
        for files, allowed in [*((files, (before, after)) for files in left), (crashes.lasting, (after,))]:
            left_behind.mkdir()
            put(left_behind, files)
            assert state(vault.OpenStore(left_behind)) in allowed
            looked += 1
            shutil.rmtree(left_behind)
        before = after
    assert looked > 25


def test_a_crash_in_the_mending_is_mended(begin: Callable[[], SealedStore], tmp_path: Path, key: str) -> None:
    crashes, states = all_crashes(begin())
    after, later = Run(tmp_path / "after"), Run(tmp_path / "later")
    looked = 0
    for done, files in crashes[::8]:
        put(after.path, files)
        second = Crashes(after.path).during(lambda: vault.open_store(after, key).close())
        for again in second:
            put(later.path, again)
            with vault.open_store(later, key) as mended:
                assert mended.verify() == []
                assert state(mended) in (states[done], states[done + 1])
            looked += 1
        shutil.rmtree(after.path)
    assert looked > 50


def test_a_crash_in_the_first_step_after_a_clean_end(
    begin: Callable[[], SealedStore], tmp_path: Path, key: str
) -> None:
    """What is left unfinished then is no more a stranger than at any other time."""
    begin().close()
    after = Run(tmp_path / "after")
    for operation in (OPERATIONS[0], OPERATIONS[1], OPERATIONS[2], OPERATIONS[5]):
        with begin() as store:
            crashes = Crashes(store.path).during(partial(operation, store))
        for files in crashes:
            put(after.path, files)
            assert vault.open_store(after, key, writable=False).verify() == []


def test_a_crash_while_a_run_begins(run: Run, tmp_path: Path, key: str) -> None:
    run.path.mkdir()
    crashes = Crashes(run.path).during(lambda: vault.open_store(run, key, create=True).close())
    after = Run(tmp_path / "after")
    for files in crashes:
        put(after.path, files)
        with vault.open_store(after, key, create=True) as store:
            store.write_open("recipe.toml", RECIPE)
        with vault.open_store(after, key) as store:
            assert state(store) == {"recipe.toml": RECIPE}
            assert store.verify() == []
        shutil.rmtree(after.path)


def test_a_crash_while_keys_change(
    begin: Callable[[], SealedStore], run: Run, tmp_path: Path, key: str
) -> None:
    """Add, rotate, remove, re-encrypt: at every moment the old key or the new key opens the whole run."""
    with begin() as store:
        for operation in OPERATIONS[:-1]:
            operation(store)
        before = state(store)
    new = f"file:{vault.write_key_file(tmp_path / 'keys' / 'new.key')}"
    changes: list[Callable[[], object]] = [
        lambda: vault.add_key(run, key, new),
        lambda: vault.remove_key(run, key, "key-2"),
        lambda: vault.rotate_key(run, key, new),
        lambda: vault.rotate_key(run, new, key, reencrypt=True),
    ]
    after, looked = Run(tmp_path / "after"), 0
    for change in changes:
        for files in Crashes(run.path).during(change):
            put(after.path, files)
            opened = 0
            for spec in (key, new):
                try:
                    with vault.open_store(after, spec) as store:
                        assert store.verify() == []
                        assert state(store) == before
                    opened += 1
                except VaultError as error:
                    assert error.code == "vault.wrong-key"
            assert opened
            looked += 1
            shutil.rmtree(after.path)
    assert looked > 60
