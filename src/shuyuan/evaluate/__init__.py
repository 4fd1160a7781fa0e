"""Scoring: runs a run's task over its held-out splits, beside a baseline that anyone would try first."""

from .audit import AUDIT_FILE, audit
from .bigram import Bigram
from .scores import LABELS_FILE, ORIGINAL, SAMPLES_FILE, SCORES_FILE, evaluate

__all__ = [
    "AUDIT_FILE",
    "LABELS_FILE",
    "ORIGINAL",
    "SAMPLES_FILE",
    "SCORES_FILE",
    "Bigram",
    "audit",
    "evaluate",
]
