"""Fixtures of this room."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def seeded() -> None:
    """Weights and rows that are the same each time."""
    torch.manual_seed(0)
