"""Exploit: feed garbage to whatever reads a run; the answer is a clear refusal, and nothing else."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from shuyuan import vault
from shuyuan.errors import RunError, VaultError

from .conftest import Target


def garbage(whole: bytes) -> list[bytes]:
    choose = random.Random(1)
    noise = bytes(choose.randrange(256) for _ in range(300))
    spoiled = bytearray(whole)
    for _ in range(5):
        spoiled[choose.randrange(len(whole))] = choose.randrange(256)
    return [b"", noise, whole[:50] + noise, noise + whole, whole[:76], whole[:77], whole[:40], b"{}", b"[" * 9999, b"\0" * 500,
            whole[:76] + b"\xff" * 300, whole[:76] + b"\0\0\0\x20\xff\xff\xff\xdf" + noise, bytes(spoiled), whole * 2]  # fmt: skip


def look_everywhere(target: Target) -> None:
    """Reads all that can be read."""
    vault.verify_run(target.run, target.key)
    store = target.open()
    for name in store.names():
        list(store.journal(name).entries()) if name.endswith(".jsonl") else store.read(name)


def test_garbage_in_every_file(target: Target) -> None:
    for file in [file for file in target.run.path.rglob("*") if file.is_file() and file.name != ".lock"]:
        whole = file.read_bytes()
        for content in [content for content in garbage(whole) if content != whole]:
            file.write_bytes(content)
            try:
                look_everywhere(target)
                assert file.name == "vault-1.index" and content.startswith(whole)
            except (VaultError, RunError) as error:
                assert error.mend
        file.write_bytes(whole)
    look_everywhere(target)


@pytest.mark.parametrize("kind", ["folder", "dangling link", "link to a device"])
def test_something_else_in_the_place_of_a_file(target: Target, kind: str) -> None:
    for file in [file for file in target.run.path.rglob("*") if file.is_file() and file.name != ".lock"]:
        whole = file.read_bytes()
        file.unlink()
        if kind == "folder":
            file.mkdir()
        else:
            file.symlink_to(Path("/dev/null") if kind == "link to a device" else Path("/nowhere"))
        with pytest.raises((VaultError, RunError)):
            look_everywhere(target)
        assert target.problems() == [file.relative_to(target.run.path).as_posix()]
        shutil.rmtree(file) if kind == "folder" else file.unlink()
        file.write_bytes(whole)
