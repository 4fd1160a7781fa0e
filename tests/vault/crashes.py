"""Stops a program between any two of its steps on the disk, and shows what would be found there afterwards."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STEPS = ("open", "pwrite", "fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "truncate", "ftruncate")


class PowerCut:
    """What is certain to be on the disk: content of files that were synced, under names in folders that were synced."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._content: dict[int, bytes] = {}
        # By the folder's number, which stays when it is renamed.
        self._folders: dict[int, dict[str, tuple[int, bool]]] = {}
        for folder, _, files in os.walk(root):
            self._sync_folder(folder)
            for file in files:
                path = Path(folder, file)
                self._content[path.stat().st_ino] = path.read_bytes()

    def synced(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir():
            self._sync_folder(str(path))
        else:
            self._content[os.fstat(handle).st_ino] = path.read_bytes()

    def created(self, number: int) -> None:
        """A new file or folder may have the number of one that is gone."""
        self._content.pop(number, None)
        self._folders.pop(number, None)

    def _sync_folder(self, folder: str) -> None:
        entries = list(os.scandir(folder))
        self._folders[Path(folder).stat().st_ino] = {
            entry.name: (entry.stat().st_ino, entry.is_dir()) for entry in entries
        }

    def files(self) -> dict[str, bytes]:
        return dict(self._below(self._root.stat().st_ino, ""))

    def _below(self, folder: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        for name, (number, is_folder) in self._folders.get(folder, {}).items():
            if is_folder:
                yield from self._below(number, f"{prefix}{name}/")
            elif name != ".lock":
                yield prefix + name, self._content.get(number, b"")


@contextmanager
def at_every_step(look: Callable[[str], None], power: PowerCut | None = None) -> Iterator[None]:
    """Calls `look` before each step on the disk, and in the middle of each write."""
    original = {step: getattr(os, step) for step in STEPS}
    inside = threading.local()

    def hooked(step: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if hasattr(inside, "step") or (step == "open" and not arguments[1] & os.O_CREAT):
                return original[step](*arguments, **options)
            inside.step = step
            try:
                look(step)
                if step == "pwrite" and len(arguments[1]) > 1:
                    handle, data, offset = arguments
                    original["pwrite"](handle, bytes(data)[: len(data) // 2], offset)
                    look("half a pwrite")
                result = original[step](*arguments, **options)
                if power is not None and step == "fsync":
                    power.synced(arguments[0])
                if power is not None and step == "open":
                    power.created(os.fstat(result).st_ino)
                if power is not None and step == "mkdir":
                    power.created(Path(arguments[0]).stat().st_ino)
                return result
            finally:
                del inside.step

        return call

    opened = io.open

    def open_file(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not hasattr(inside, "step") and set(mode) & set("wax+"):
            look("open")
        return opened(file, mode, *arguments, **options)

    for step in STEPS:
        setattr(os, step, hooked(step))
    io.open = open_file
    try:
        yield
        look("the end")
    finally:
        io.open = opened
        for step in STEPS:
            setattr(os, step, original[step])
