"""Training: one driver that owns steps, schedule, checkpoints and metrics, and backends that compute the steps.

Other rooms use `resolve` (fills in what a recipe leaves open), `train` and `TrainResult`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .resolve import resolve

if TYPE_CHECKING:
    from .training import TrainResult, train

__all__ = ["TrainResult", "resolve", "train"]


def __getattr__(name: str) -> Any:
    """Loads torch only when something is trained: the plan needs nothing but `resolve`."""
    if name in __all__:
        from . import training

        return getattr(training, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
