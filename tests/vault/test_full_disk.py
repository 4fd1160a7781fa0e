"""A disk that refuses a write costs that write and nothing else, and says so."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from shuyuan import vault
from shuyuan.errors import MachineError
from shuyuan.runs import Run
from shuyuan.vault import SealedStore

from .test_crashes import OPERATIONS, broken_off, state


class FullDisk:
    """Refuses the n-th step on the disk and all later ones, until there is room again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1 << 30
        for step in ("pwrite", "fsync", "mkdir", "replace"):
            monkeypatch.setattr(os, step, self._refusing(getattr(os, step), step))

    def _refusing(self, original: Callable[..., Any], step: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left >= 0:
                return original(*arguments, **options)
            if step == "pwrite":
                original(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], arguments[2])
            raise OSError(errno.ENOSPC, "No space left on device")

        return call


def test_a_full_disk_costs_one_write(
    begin: Callable[[], SealedStore], run: Run, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begin()
    disk = FullDisk(monkeypatch)
    refused = 0
    for operation in OPERATIONS[:-1]:
        if operation is broken_off:
            continue
        for steps in range(40):
            before = state(store)
            disk.left = steps
            try:
                operation(store)
                disk.left = 1 << 30
                break
            except MachineError as error:
                assert error.code == "machine.cannot-write"
                refused += 1
            disk.left = 1 << 30
            now = state(store)  # the store is of use as long as it is open
            store.write("data/other", b"x")
            reading = vault.open_store(run, key, writable=False)
            assert reading.verify() == []
            store.remove("data/other")
            if now != before and state(store) != before:
                break  # it had happened, and only what follows was refused
    assert refused > 30
    store.close()
    with vault.open_store(run, key) as again:
        assert again.verify() == []


def test_an_interrupt_anywhere_in_a_commit_is_mended(
    begin: Callable[[], SealedStore], run: Run, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C breaks off between any two steps; the store goes on, or the next one does."""
    store = begin()
    count = 0

    def interrupting(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count -= 1
            if count == 0:
                raise KeyboardInterrupt
            return original(*arguments, **options)

        return call

    for step in ("pwrite", "fsync", "replace", "unlink", "open", "close"):
        monkeypatch.setattr(os, step, interrupting(getattr(os, step)))
    for at in range(1, 60):
        for operation in (OPERATIONS[1], OPERATIONS[2], OPERATIONS[5], OPERATIONS[6]):
            count = at
            with suppress(KeyboardInterrupt):
                operation(store)
            count = 0
        assert store.verify() == []
    store.close()
    with vault.open_store(run, key) as again:
        assert again.verify() == []
        assert again.read("data/x") == b"one" * 40
