"""Exploit: make a sealed run look like an open or an empty one, so that what comes next is written in the clear."""

from __future__ import annotations

import itertools

import pytest

from shuyuan import vault
from shuyuan.errors import VaultError

from .conftest import Target


def test_any_of_the_vaults_own_files_gone(target: Target) -> None:
    files = ("vault.json", "vault-1.index", "vault-1.head", "recipe.toml")
    kept = {name: (target.run.path / name).read_bytes() for name in files}
    for count in (1, 2, 3):
        for gone in itertools.combinations(files, count):
            for name in gone:
                (target.run.path / name).unlink()
            with pytest.raises(VaultError):
                vault.open_store(target.run, None)
            for create in (True, False):
                with pytest.raises(VaultError):
                    vault.open_store(target.run, target.key, create=create)
            for name in gone:
                (target.run.path / name).write_bytes(kept[name])
    assert target.problems() == []
