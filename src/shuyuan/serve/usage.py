"""What each key took, a line a day and model."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Any

_COLUMNS = ("name", "day", "model", "requests", "prompt_tokens", "completion_tokens")


class UsageLog:
    """The account of all keys.

    Args:
        state: as `open_state` gives it.
    """

    def __init__(self, state: sqlite3.Connection) -> None:
        self._state = state

    def add(self, name: str, model: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Counts a request; it is written when this returns."""
        self._state.execute(
            "INSERT INTO usage VALUES (?, ?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + 1,"
            " prompt_tokens = prompt_tokens + excluded.prompt_tokens,"
            " completion_tokens = completion_tokens + excluded.completion_tokens",
            (name, datetime.now(UTC).date().isoformat(), model, prompt_tokens, completion_tokens),
        )

    def all(self) -> list[dict[str, Any]]:
        """Every line, the newest first."""
        rows = self._state.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM usage ORDER BY day DESC, name, model LIMIT 10000"
        )
        return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
