"""A sealed run opens with its key and in no other way; an open run is never taken for a sealed one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shuyuan import vault
from shuyuan.errors import VaultError
from shuyuan.runs import Run
from shuyuan.vault import OpenStore, SealedStore
from shuyuan.vault.vault_file import read_vault_file

Begin = Callable[[], SealedStore]


def test_sealed_and_open_are_not_confused(begin: Begin, run: Run, key: str, tmp_path: Path) -> None:
    begin().close()
    with pytest.raises(VaultError, match=r"vault\.sealed"):
        vault.open_store(run, None)
    clear = Run(tmp_path / "clear")
    OpenStore(clear.path).write("recipe.toml", b"x")
    for create in (True, False):
        with pytest.raises(VaultError, match="not-sealed"):
            vault.open_store(clear, key, create=create)
    assert isinstance(vault.open_store(clear, None), OpenStore)
    with pytest.raises(VaultError, match="not-sealed"):
        vault.open_store(Run(tmp_path / "nowhere"), key)
    assert not (tmp_path / "nowhere").exists()


def test_records_beside_an_open_run_that_begin_as_a_seal_does_do_not_make_it_a_sealed_one(
    tmp_path: Path,
) -> None:
    clear = Run(tmp_path / "clear")
    OpenStore(clear.path).write("recipe.toml", b"x")
    (clear.path / "notes").mkdir()
    (clear.path / "notes" / "odd.txt").write_bytes(b"SHUYUAN\0 is how a sealed file begins")
    assert isinstance(vault.open_store(clear, None), OpenStore)


def test_taking_vault_json_away_does_not_open_a_run(begin: Begin, run: Run, key: str) -> None:
    """Otherwise the next results would be written in the clear."""
    begin().close()
    (run.path / "vault.json").unlink()
    with pytest.raises(VaultError, match=r"vault\.sealed"):
        vault.open_store(run, None)
    for create in (True, False):
        with pytest.raises(VaultError, match=r"vault\.json"):
            vault.open_store(run, key, create=create)


def test_a_passphrase_opens_and_a_wrong_one_is_refused_fast(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K", "correct horse")
    with vault.open_store(run, "env:K", create=True) as store:
        store.write("x", b"y")
    assert vault.open_store(run, "env:K", writable=False).read("x") == b"y"
    cost = json.loads((run.path / "vault.json").read_bytes())["keys"][0]["kdf"]
    assert cost == {"name": "argon2id", "memory_kib": 64 * 1024, "passes": 3, "lanes": 4}  # RFC 9106
    for wrong in ("wrong horse", vault.new_key()):
        monkeypatch.setenv("K", wrong)
        started = time.process_time()
        with pytest.raises(VaultError, match="wrong-key") as caught:
            vault.open_store(run, "env:K")
        assert time.process_time() - started < 1
        assert wrong not in str(caught.value)


def test_beginning_goes_on_where_it_was_broken_off_with_the_same_key_only(
    run: Run, key: str, tmp_path: Path
) -> None:
    vault.open_store(run, key, create=True).close()
    for file in run.path.glob("vault-*"):
        file.unlink()
    other = f"file:{vault.write_key_file(tmp_path / 'other.key')}"
    with pytest.raises(VaultError, match="wrong-key"):
        vault.open_store(run, other, create=True)
    with vault.open_store(run, key, create=True) as store:
        store.write("x", b"y")
    for file in run.path.glob("vault-*"):
        file.unlink()
    with pytest.raises(VaultError, match="index is gone"):
        vault.open_store(run, key, create=True)


ABSURD: list[Callable[[dict[str, Any]], object]] = [
    lambda table: table["keys"][0]["kdf"].update(memory_kib=1 << 40),
    lambda table: table["keys"][0]["kdf"].update(memory_kib=8),
    lambda table: table["keys"][0]["kdf"].update(passes=1 << 30),
    lambda table: table["keys"][0]["kdf"].update(passes=0),
    lambda table: table["keys"][0]["kdf"].update(lanes=1 << 24),
    lambda table: table["keys"][0]["kdf"].update(lanes=-1),
    lambda table: table["keys"][0]["kdf"].update(passes=True),
    lambda table: table["keys"][0]["kdf"].update(passes="3"),
    lambda table: table["keys"][0]["kdf"].update(name="none"),
    lambda table: table["keys"][0].update(kind="key"),
    lambda table: table["keys"][0].update(kind=[]),
    lambda table: table["keys"][0].update(salt="00"),
    lambda table: table["keys"][0].update(nonce="zz" * 12),
    lambda table: table["keys"][0].update(wrapped=None),
    lambda table: table["keys"][0].pop("name"),
    lambda table: table["keys"].extend(table["keys"] * 20),
    lambda table: table["keys"].append(table["keys"][0]),
    lambda table: table.update(keys={}),
    lambda table: table.update(keys=5),
    lambda table: table.update(format=2),
    lambda table: table.update(epoch=0),
    lambda table: table.update(epoch=1 << 40),
    lambda table: table.update(run="00"),
    lambda table: table.clear(),
]


@pytest.mark.parametrize("change", ABSURD)
def test_absurd_parameters_are_refused_before_they_cost_anything(
    run: Run, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], object]
) -> None:
    monkeypatch.setenv("K", "correct horse")
    monkeypatch.setattr(vault.vault_file, "Argon2id", _CheapArgon2)
    vault.open_store(run, "env:K", create=True).close()
    table = json.loads((run.path / "vault.json").read_text())
    change(table)
    (run.path / "vault.json").write_text(json.dumps(table))
    started = time.process_time()
    monkeypatch.setattr(
        vault.vault_file, "Argon2id", None
    )  # calling it would fail otherwise than with a VaultError
    with pytest.raises(VaultError, match=r"vault\.json"):
        vault.open_store(run, "env:K")
    assert time.process_time() - started < 0.5


class _CheapArgon2:
    """Takes no time; here only the bounds are the matter."""

    def __init__(self, **options: Any) -> None:
        pass

    def derive(self, value: bytes) -> bytes:
        return bytes(32)


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"null", b"[" * 100_000, b"1" * 5000, b"{}" * 600_000]
)
def test_garbage_for_a_vault_file(run: Run, key: str, content: bytes) -> None:
    run.path.mkdir()
    (run.path / "vault.json").write_bytes(content)
    with pytest.raises(VaultError, match=r"vault\.json"):
        vault.open_store(run, key)
    with pytest.raises(VaultError, match=r"vault\.json"):
        read_vault_file(run.path)


def test_verify_speaks_even_of_a_run_that_does_not_open(begin: Begin, run: Run, key: str) -> None:
    with begin() as store:
        store.write_open("recipe.toml", b"name = 'x'")
        store.write("x", b"y")
    problems, head = vault.verify_run(run, key)
    assert problems == [] and head == store.head()
    (run.path / "recipe.toml").write_bytes(b"name = 'y'")
    with pytest.raises(VaultError, match=r"recipe\.toml"):
        vault.open_store(run, key)
    assert [problem.file for problem in vault.verify_run(run, key)[0]] == ["recipe.toml"]
    (run.path / "vault-1.head").unlink()
    assert [problem.file for problem in vault.verify_run(run, key)[0]] == ["vault-1.head"]
    assert vault.verify_run(Run(run.path.parent / "none"), None) == ([], None)
