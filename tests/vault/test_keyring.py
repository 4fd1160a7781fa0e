"""Several keys open one vault; each can be replaced or taken away, and re-encryption leaves nothing of the old one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shuyuan import vault
from shuyuan.errors import RunError, VaultError
from shuyuan.runs import Run
from shuyuan.vault import SealedStore
from shuyuan.vault.opening import unlock

from .tampering import snapshot

Begin = Callable[[], SealedStore]


@pytest.fixture
def other(tmp_path: Path) -> str:
    return f"file:{vault.write_key_file(tmp_path / 'keys' / 'other.key')}"


@pytest.fixture
def filled(begin: Begin, run: Run, key: str) -> Run:
    with begin() as store:
        store.write_open(
            "recipe.toml", f'name = "x"\n[data]\nsource = "stdlib"\n[vault]\nkey = "{key}"\n'.encode()
        )
        store.write("data/x", b"one" * 50_000)
        store.write("empty", b"")
        store.journal("metrics.jsonl").append({"n": 1})
        store.journal("metrics.jsonl").append({"n": 2})
    return run


def opens(run: Run, key: str) -> bool:
    try:
        store = vault.open_store(run, key, writable=False)
    except VaultError as error:
        assert error.code == "vault.wrong-key"
        return False
    assert store.read("data/x") == b"one" * 50_000
    assert store.read("empty") == b""
    assert list(store.journal("metrics.jsonl").entries()) == [{"n": 1}, {"n": 2}]
    assert store.verify() == []
    return True


def sealed_files(run: Run) -> dict[str, bytes]:
    return {name: content for name, content in snapshot(run.path).items() if "/" in name}


def test_another_key(filled: Run, key: str, other: str) -> None:
    before = sealed_files(filled)
    added = vault.add_key(filled, key, other, "recovery")
    assert (added.name, added.kind) == ("recovery", "key")
    assert [entry.name for entry in vault.list_keys(filled)] == ["key-1", "recovery"]
    assert opens(filled, key) and opens(filled, other)
    assert sealed_files(filled) == before
    with pytest.raises(VaultError, match="name-taken"):
        vault.add_key(filled, key, other, "recovery")
    with pytest.raises(VaultError, match="bad-key-name"):
        vault.add_key(filled, key, other, "../x")
    vault.remove_key(filled, other, "key-1")
    assert opens(filled, other) and not opens(filled, key)
    with pytest.raises(VaultError, match="last-key"):
        vault.remove_key(filled, other, "recovery")
    with pytest.raises(VaultError, match="no-such-key"):
        vault.remove_key(filled, other, "key-1")
    assert vault.add_key(filled, other, key).name == "key-1"


def test_rotation_touches_no_data(filled: Run, key: str, other: str, tmp_path: Path) -> None:
    third = f"file:{vault.write_key_file(tmp_path / 'third.key')}"
    vault.add_key(filled, key, third)
    before, fingerprint = sealed_files(filled), derived(filled, key)
    done = vault.rotate_key(filled, key, other)
    assert done == vault.Rotation("key-1", (), False)
    assert sealed_files(filled) == before
    assert opens(filled, other) and opens(filled, third) and not opens(filled, key)
    assert [entry.name for entry in vault.list_keys(filled)] == ["key-1", "key-2"]
    recipe = filled.recipe()
    assert recipe.vault is not None and recipe.vault.key == other
    assert derived(filled, other) == fingerprint


def derived(run: Run, key: str) -> bytes:
    return vault.open_store(run, key, writable=False).derive_key("fingerprint")


def test_reencryption_leaves_nothing_of_the_old_key(
    filled: Run, key: str, other: str, tmp_path: Path
) -> None:
    third, fourth = (f"file:{vault.write_key_file(tmp_path / name)}" for name in ("third.key", "fourth.key"))
    vault.add_key(filled, key, third)
    vault.add_key(filled, key, fourth)
    before, fingerprint = snapshot(filled.path), derived(filled, key)
    head = vault.open_store(filled, key, writable=False).head()
    secret = unlock(filled, key).key.secret
    done = vault.rotate_key(filled, key, other, reencrypt=True, keep=[third])
    assert unlock(filled, other).key.secret != secret  # or it would still open for whoever kept a copy of it
    assert done == vault.Rotation("key-1", ("key-3",), True)
    after = snapshot(filled.path)
    assert not set(before.values()) & set(after.values())
    assert not {name for name in before if "/" in name or name.startswith("vault-")} & set(after)
    assert opens(filled, other) and opens(filled, third)
    assert not opens(filled, key) and not opens(filled, fourth)
    assert derived(filled, other) == fingerprint  # the data's fingerprint and splits stay as they are
    assert vault.open_store(filled, other, writable=False).verify(head) == []
    with vault.open_store(filled, other) as store:
        store.write("data/x", b"one" * 50_000)
        store.write_open("plan.json", b"{}")
        store.remove("plan.json")
    vault.rotate_key(filled, other, key, reencrypt=True)
    assert opens(filled, key) and not opens(filled, third)
    assert vault.open_store(filled, key, writable=False).verify(head) == []  # noted two data keys ago


def test_a_refused_change_changes_nothing(filled: Run, key: str, other: str, tmp_path: Path) -> None:
    before = snapshot(filled.path)
    wrong = f"file:{vault.write_key_file(tmp_path / 'wrong.key')}"
    attempts: list[Callable[[], object]] = [
        lambda: vault.add_key(filled, wrong, other),
        lambda: vault.add_key(filled, key, "env:NOT_SET_AT_ALL"),
        lambda: vault.remove_key(filled, wrong, "key-1"),
        lambda: vault.rotate_key(filled, wrong, other),
        lambda: vault.rotate_key(filled, key, other, reencrypt=True, keep=[wrong]),
        lambda: vault.add_key(Run(tmp_path / "nowhere"), key, other),
        lambda: vault.list_keys(Run(tmp_path / "nowhere")),
    ]
    for attempt in attempts:
        with pytest.raises(VaultError):
            attempt()
    with filled.lock("train"), pytest.raises(RunError, match="locked"):
        vault.add_key(filled, key, other)
    assert snapshot(filled.path) == before
    assert not (tmp_path / "nowhere").exists()


def test_a_vault_has_at_most_sixteen_keys(filled: Run, key: str, other: str) -> None:
    for _ in range(15):
        vault.add_key(filled, key, other)
    with pytest.raises(VaultError, match="too-many-keys"):
        vault.add_key(filled, key, other)
    assert len({entry.name for entry in vault.list_keys(filled)}) == 16


def test_reencryption_that_fails_leaves_the_run_as_it_was(filled: Run, key: str, other: str) -> None:
    victim = next(iter(filled.path.glob("data/*")))
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    names = set(snapshot(filled.path))
    with pytest.raises(VaultError, match="broken-seal"):
        vault.rotate_key(filled, key, other, reencrypt=True)
    assert set(snapshot(filled.path)) == names
    victim.write_bytes(content)
    assert opens(filled, key)
