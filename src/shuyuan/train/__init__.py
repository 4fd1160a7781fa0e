"""Training: one driver that owns steps, schedule, checkpoints and metrics, and backends that compute the steps.

Other rooms use `resolve` (fills in what a recipe leaves open), `mechanism_of` (what a private step does), `train` and `TrainResult`, `joined` (the processes that torchrun started) and `check_ranks`; the plan reads the formulas in
`resolve.py`. torch is loaded only when a model is trained or a time budget calibrated.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .distributed import check_ranks, joined
from .resolve import mechanism_of, resolve

if TYPE_CHECKING:
    from .training import TrainResult, train

__all__ = ["TrainResult", "check_ranks", "joined", "mechanism_of", "resolve", "train"]


def __getattr__(name: str) -> Any:
    if name in ("TrainResult", "train"):
        return getattr(import_module(".training", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
