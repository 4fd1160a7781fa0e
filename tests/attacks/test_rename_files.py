"""Exploit: let one file of a run, or of another run with the same key, stand for another."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from shuyuan import vault
from shuyuan.errors import VaultError
from shuyuan.runs import Run
from tests.vault.tampering import place

from .conftest import Target


def test_every_file_in_the_place_of_every_other(target: Target) -> None:
    store = target.open()
    for name, other in itertools.permutations(store.names(), 2):
        victim = place(store, name)
        content = victim.read_bytes()
        victim.write_bytes(place(store, other).read_bytes())
        with pytest.raises(VaultError, match=name):
            store.lines(name) if name == "metrics.jsonl" else store.read(name)
        assert target.problems() == [victim.relative_to(store.path).as_posix()]
        victim.write_bytes(content)


def test_files_that_were_renamed(target: Target) -> None:
    store = target.open()
    a, b = place(store, "data/a.shard"), place(store, "data/b.shard")
    a.rename(a.with_name("x"))
    b.rename(a)
    a.with_name("x").rename(b)
    assert sorted(target.problems()) == sorted(path.relative_to(store.path).as_posix() for path in (a, b))


def test_a_file_of_another_run_with_the_same_key(target: Target, tmp_path: Path) -> None:
    other = Run(tmp_path / "other")
    with vault.open_store(other, target.key, create=True) as store:
        store.write("data/a.shard", b"foreign")
        foreign = place(store, "data/a.shard")  # type: ignore[arg-type]
    own = target.open()
    victim = place(own, "data/a.shard")
    shutil.copy(foreign, victim)
    with pytest.raises(VaultError, match="another run"):
        own.read("data/a.shard")
    for name in ("vault.json", "vault-1.index", "vault-1.head"):
        content = (own.path / name).read_bytes()
        shutil.copy(other.path / name, own.path / name)
        assert target.problems() == [name] or name == "vault.json"
        with pytest.raises(VaultError):
            target.open()
        (own.path / name).write_bytes(content)


def test_strange_files_are_named(target: Target) -> None:
    for name in ("evil.py", "data/x.shard", "data/" + "0" * 64, "deep/er/x", "data/.hidden"):
        file = target.run.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
        assert target.problems() == [name]
        file.unlink()
