"""A sealed run with a past, for every attack to try itself on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from shuyuan import vault
from shuyuan.errors import VaultError
from shuyuan.runs import Run
from shuyuan.vault import SealedStore
from tests.vault.tampering import snapshot

RECIPE = b'name = "x"\n[data]\nsource = "stdlib"\n'


@dataclass
class Target:
    """A sealed run, closed in good order.

    Args:
        run: the run.
        key: where its key is.
        past: the folder as it was after each earlier step, oldest first.
        heads: the head at each of these times.
    """

    run: Run
    key: str
    past: list[dict[str, bytes]]
    heads: list[str]

    def open(self) -> SealedStore:
        store = vault.open_store(self.run, self.key, writable=False)
        assert isinstance(store, SealedStore)
        return store

    def problems(self) -> list[str]:
        """Which files are named by verify, or by the refusal to open."""
        try:
            return [problem.file for problem in vault.verify_run(self.run, self.key)[0]]
        except VaultError as error:
            return ["vault.json"] if error.code == "vault.wrong-key" else [Path(error.where or "").name]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """Three generations of everything that a run can hold."""
    key = f"file:{vault.write_key_file(tmp_path / 'keys' / 'run.key')}"
    other = f"file:{vault.write_key_file(tmp_path / 'keys' / 'other.key')}"
    run = Run(tmp_path / "run")
    past, heads = [], []
    for generation in range(3):
        with vault.open_store(run, key, create=True) as store:
            store.write_open("recipe.toml", b"seed = %d\n" % generation + RECIPE)
            past.append(snapshot(run.path))
            store.write_open("report.html", b"<p>%d" % generation)
            store.write("data/a.shard", b"a%d" % generation * 100)
            store.write("data/b.shard", b"b%d" % generation * 100)
            past.append(snapshot(run.path))
            store.write("scores.json", b"%d" % generation)
            store.journal("metrics.jsonl").append({"n": generation})
            with store.folder("model") as folder:
                folder.write("config.json", b"c%d" % generation)
                folder.write("weights", b"w%d" % generation * 70_000)
            past.append(snapshot(run.path))
            store.journal("metrics.jsonl").append({"n": generation})
        heads.append(store.head() or "")
        past.append(snapshot(run.path))
        if generation < 2:
            vault.add_key(run, key, other)
            past.append(snapshot(run.path))
    return Target(run, key, past, heads)
