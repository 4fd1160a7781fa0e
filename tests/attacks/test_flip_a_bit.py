"""Exploit: change a single bit of a sealed run."""

from __future__ import annotations

from pathlib import Path

import pytest

from shuyuan.errors import VaultError
from shuyuan.vault.seal import DataKey, Header, Role, SealedReader, SealedWriter
from tests.vault.tampering import flips, place

from .conftest import Target


def test_every_bit_of_a_file_with_several_segments(tmp_path: Path) -> None:
    key = DataKey(bytes(16), 1, bytes(32))
    header = Header(Role.FILE, key.run, 1, 1, segment_bytes=16)
    out = SealedWriter(tmp_path / "file", key, header, "data/x")
    out.write(b"0123456789abcdef" * 2 + b"rest")
    out.finish()
    for _ in flips(tmp_path / "file"):
        with pytest.raises(VaultError, match="broken-seal"):
            SealedReader(tmp_path / "file", key, header, "data/x").check()
    SealedReader(tmp_path / "file", key, header, "data/x").check()


@pytest.mark.parametrize("name", ["scores.json", "metrics.jsonl", "recipe.toml"])
def test_every_bit_of_a_file_of_a_run(target: Target, name: str) -> None:
    store = target.open()
    for bit in flips(place(store, name)):
        if name == "metrics.jsonl" and bit % 7:
            continue  # every bit of a small log: tests/vault/test_journals.py
        with pytest.raises(VaultError, match=name):
            store.lines(name) if name.endswith(".jsonl") else store.read(name)
    assert store.verify() == []


def test_every_bit_of_the_head(target: Target) -> None:
    for bit in flips(target.run.path / "vault-1.head"):
        if bit % 5 == 0:
            assert target.problems() == ["vault-1.head"]


def test_every_bit_of_the_index(target: Target) -> None:
    for bit in flips(target.run.path / "vault-1.index"):
        if bit % 41 == 0:
            assert target.problems() == ["vault-1.index"]


def test_every_bit_of_the_wrapped_keys(target: Target) -> None:
    for bit in flips(target.run.path / "vault.json"):
        if bit % 7 == 0:
            assert target.problems() == ["vault.json"]


def test_a_byte_of_every_file(target: Target) -> None:
    files = [file for file in target.run.path.rglob("*") if file.is_file() and file.name != ".lock"]
    assert len(files) == 11
    for file in files:
        whole = file.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
            assert target.problems() == [file.relative_to(target.run.path).as_posix()]
        file.write_bytes(whole)
    assert target.problems() == []
