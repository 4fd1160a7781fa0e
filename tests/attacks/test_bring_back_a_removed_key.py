"""Exploit: whose key was removed puts back the vault.json that still has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shuyuan import vault
from shuyuan.errors import VaultError

from .conftest import Target


def test_a_removed_key(target: Target, tmp_path: Path) -> None:
    old_file = target.run.path / "vault.json"
    before = old_file.read_bytes()
    new = f"file:{vault.write_key_file(tmp_path / 'new.key')}"
    vault.rotate_key(target.run, target.key, new)
    old_file.write_bytes(before)
    for writable in (True, False):
        with pytest.raises(VaultError, match=r"older state of vault\.json"):
            vault.open_store(target.run, target.key, writable=writable)
    assert target.problems() == ["vault.json"]


def test_a_replaced_data_key(target: Target, tmp_path: Path) -> None:
    """After re-encryption the old vault.json opens nothing, nor do the old files that someone kept."""
    path = target.run.path
    kept = {name: (path / name).read_bytes() for name in ("vault.json", "vault-1.index", "vault-1.head")}
    new = f"file:{vault.write_key_file(tmp_path / 'new.key')}"
    vault.rotate_key(target.run, target.key, new, reencrypt=True)
    newest = (path / "vault.json").read_bytes()
    (path / "vault.json").write_bytes(kept["vault.json"])
    for key in (target.key, new):
        with pytest.raises(VaultError, match=r"older vault\.json"):
            vault.open_store(target.run, key)
    for name in ("vault-1.index", "vault-1.head"):
        (path / "vault.json").write_bytes(newest)
        (path / name).write_bytes(kept[name])
        assert [problem.file for problem in vault.verify_run(target.run, new)[0]] == [name]
        (path / name).unlink()


def test_an_old_file_after_reencryption(target: Target, tmp_path: Path) -> None:
    store = target.open()
    old = target.run.path / store.shelf.place("data/a.shard", store.index.entries["data/a.shard"])
    content = old.read_bytes()
    new = f"file:{vault.write_key_file(tmp_path / 'new.key')}"
    vault.rotate_key(target.run, target.key, new, reencrypt=True)
    assert not old.exists()
    old.write_bytes(content)
    name = old.relative_to(target.run.path).as_posix()
    assert [problem.file for problem in vault.verify_run(target.run, new)[0]] == [name]
