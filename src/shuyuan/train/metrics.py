"""The log of a run's training: its name, and which of its lines count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

METRICS_FILE = "metrics.jsonl"
Line = dict[str, Any]

# What a rollback does not undo. (A resume does: the resumed run passes the same skips and rollbacks again.)
_HAPPENED = ("train.start", "train.skipped", "train.rollback")


def valid_lines(lines: Iterable[Line]) -> list[Line]:
    """The lines that count: steps after the one that a start or a rollback goes back to are done again, and dropped.

    Args:
        lines: of the log, oldest first.
    """
    valid: list[Line] = []
    for line in lines:
        event = line.get("event")
        if event == "train.start":
            valid = [old for old in valid if not _is_undone(old, line.get("step"), kept=("train.start",))]
        elif event == "train.rollback":
            valid = [old for old in valid if not _is_undone(old, line.get("to_step"), kept=_HAPPENED)]
        valid.append(line)
    return valid


def _is_undone(line: Line, step: Any, kept: tuple[str, ...]) -> bool:
    event, at = str(line.get("event", "")), line.get("step")
    is_training = event.startswith("train.") and event not in kept
    return is_training and isinstance(at, int) and isinstance(step, int) and at > step
