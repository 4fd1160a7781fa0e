"""Scoring: runs a run's task over its held-out splits, beside a baseline that anyone would try first."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .bigram import Bigram
from .file import evaluate_file, read_examples
from .scores import ANSWERS_FILE, AUDIT_FILE, LABELS_FILE, SAMPLES_FILE, SCORES_FILE, evaluate

if TYPE_CHECKING:
    from .auditing import audit

__all__ = [
    "ANSWERS_FILE",
    "AUDIT_FILE",
    "LABELS_FILE",
    "SAMPLES_FILE",
    "SCORES_FILE",
    "Bigram",
    "audit",
    "evaluate",
    "evaluate_file",
    "read_examples",
]


def __getattr__(name: str) -> Any:
    """Loads torch only when an audit is asked for: scores are made by the framework of the model."""
    if name == "audit":
        return import_module(".auditing", __name__).audit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
