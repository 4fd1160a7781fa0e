"""Small sealed runs for the tests of the vault."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shuyuan import vault
from shuyuan.runs import Run


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power cuts are simulated where they are the matter; elsewhere waiting for the disk only takes time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def key(tmp_path: Path) -> str:
    """Where a fresh key is."""
    return f"file:{vault.write_key_file(tmp_path / 'keys' / 'first.key')}"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that is not there yet."""
    return Run(tmp_path / "run")


@pytest.fixture
def begin(run: Run, key: str) -> Callable[[], vault.SealedStore]:
    """Makes the sealed run, or opens it again, for writing."""

    def opened() -> vault.SealedStore:
        store = vault.open_store(run, key, create=True)
        assert isinstance(store, vault.SealedStore)
        return store

    return opened
