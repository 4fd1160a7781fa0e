"""What an attacker does to files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from shuyuan.vault import SealedStore


def flips(path: Path) -> Iterator[int]:
    """Flips one bit after the other, in place; every time the one before is as it was."""
    whole = path.read_bytes()
    handle = os.open(path, os.O_RDWR)
    try:
        for bit in range(8 * len(whole)):
            byte = bit // 8
            os.pwrite(handle, bytes([whole[byte] ^ 1 << bit % 8]), byte)
            yield bit
            os.pwrite(handle, whole[byte : byte + 1], byte)
    finally:
        os.close(handle)


def place(store: SealedStore, name: str) -> Path:
    """Where a file of a run lies."""
    return store.path / store.shelf.place(name, store.index.entries[name])


def snapshot(folder: Path) -> dict[str, bytes]:
    """Content of every file of a run, but for the lock."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != ".lock")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def put(folder: Path, files: dict[str, bytes]) -> None:
    """Makes the folder hold exactly these files."""
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        file.unlink()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
