"""Exploit: put one file back from an older copy of the run folder."""

from __future__ import annotations

import json

import pytest

from shuyuan import vault
from shuyuan.errors import VaultError
from tests.vault.tampering import place, put, snapshot

from .conftest import Target


def test_any_file_from_any_time(target: Target) -> None:
    """Every file of the folder, the index, its head, vault.json and the recipe included, is named."""
    now, tried = snapshot(target.run.path), set()
    for past in target.past[:-1]:
        for name, content in past.items():
            if now.get(name) == content or (name, content) in tried:
                continue
            tried.add((name, content))
            (target.run.path / name).write_bytes(content)
            assert target.problems() == [name] or _is_the_last_step(name, past, now)
            put(target.run.path, now)
    kinds = {name.split("/")[0] for name, _ in tried}
    assert kinds == {
        "data",
        "model",
        "sealed",
        "recipe.toml",
        "report.html",
        "vault.json",
        "vault-1.index",
        "vault-1.head",
    }
    assert target.problems() == []


def _is_the_last_step(name: str, past: dict[str, bytes], now: dict[str, bytes]) -> bool:
    """The head as it was one step before the end: the folder then is as a crash in that step leaves it, and nothing in
    it can tell. That last step only notes that the run was closed in good order."""
    return name == "vault-1.head" and json.loads(past[name])["count"] == json.loads(now[name])["count"] - 1


def test_an_older_content_under_the_newest_name(target: Target) -> None:
    """Whoever can guess which file is which puts the older content where the newest is looked for."""
    now = snapshot(target.run.path)
    store = target.open()
    newest = {name: place(store, name) for name in store.names()}
    older = _older_contents(target)
    for name, content in older.items():
        newest[name].write_bytes(content)
        with pytest.raises(VaultError, match=rf"(?s)older state of {name}"):
            store.lines(name) if name == "metrics.jsonl" else store.read(name)
        assert target.problems() == [newest[name].relative_to(store.path).as_posix()]
        put(target.run.path, now)
    assert len(older) == 5


def _older_contents(target: Target) -> dict[str, bytes]:
    """The last content but one of every sealed file, found as its owner would find it."""
    store = target.open()
    identities = {name: identity for identity, (name, _) in store.index.past.items()}
    found = {}
    for name, identity in identities.items():
        for past in target.past:
            for path, content in past.items():
                if path.endswith(f"{identity[:32]}{path[-32:]}") and "/" in path:
                    found[name] = content
    return found


def test_opening_for_work_does_not_take_the_evidence_away(target: Target) -> None:
    past = next(past for past in target.past if not set(past) <= set(snapshot(target.run.path)))
    name = next(name for name in past if name not in snapshot(target.run.path))
    (target.run.path / name).write_bytes(past[name])
    with vault.open_store(target.run, target.key) as store:
        store.write("scores.json", b"new")
    assert target.problems() == [name]


def test_a_log_cut_back_to_where_it_was(target: Target) -> None:
    store = target.open()
    log = place(store, "metrics.jsonl")
    older = [past[name] for past in target.past for name in past if name.endswith(log.name)]
    assert len(set(older)) == 6
    for content in sorted(set(older), key=len)[:-1]:
        log.write_bytes(content)
        with pytest.raises(VaultError, match="rolled-back"):
            store.lines("metrics.jsonl")
