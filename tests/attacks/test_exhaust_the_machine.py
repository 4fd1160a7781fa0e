"""Exploit: a vault.json that asks for a terabyte of memory, or a log that states a line of gigabytes."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import pytest

from shuyuan import vault
from shuyuan.errors import VaultError
from shuyuan.runs import Run
from tests.vault.tampering import place

from .conftest import Target


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize(
    "cost",
    [{"memory_kib": 1 << 31}, {"memory_kib": 300 * 1024}, {"passes": 9}, {"passes": 1 << 31}, {"lanes": 999}],
)
def test_an_absurd_derivation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: dict[str, int]) -> None:
    monkeypatch.setenv("K", "correct horse")
    run = Run(tmp_path / "run")
    vault.open_store(run, "env:K", create=True).close()
    table = json.loads((run.path / "vault.json").read_text())
    table["keys"][0]["kdf"] |= cost
    (run.path / "vault.json").write_text(json.dumps(table))
    before, started = peak_mib(), time.process_time()
    with pytest.raises(VaultError, match="absurd-derivation"):
        vault.open_store(run, "env:K")
    assert time.process_time() - started < 0.5
    assert peak_mib() - before < 16


def test_the_dearest_derivation_that_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = vault.vault_file.Argon2(256 * 1024, 1, 4)
    assert cost.is_sane()
    assert not vault.vault_file.Argon2(256 * 1024 + 1, 1, 4).is_sane()


def test_a_line_of_gigabytes(target: Target) -> None:
    store = target.open()
    log = place(store, "metrics.jsonl")
    whole = log.read_bytes()
    before = peak_mib()
    for length in (1 << 28, (1 << 32) - 1, (1 << 28) + 1):
        log.write_bytes(
            whole[:76] + length.to_bytes(4, "big") + (length ^ 0xFFFFFFFF).to_bytes(4, "big") + whole[84:]
        )
        with pytest.raises(VaultError):
            store.lines("metrics.jsonl")
    assert peak_mib() - before < 64
