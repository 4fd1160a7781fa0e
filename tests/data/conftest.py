"""Fixtures of this room."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk only takes time here; power cuts are the vault's matter."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
