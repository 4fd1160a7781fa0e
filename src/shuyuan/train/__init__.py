"""Training: one driver that owns steps, schedule, checkpoints and metrics, and backends that compute the steps.

Other rooms use `resolve` (fills in what a recipe leaves open), `train` and `TrainResult`.
"""

from __future__ import annotations

from .resolve import resolve
from .training import TrainResult, train

__all__ = ["TrainResult", "resolve", "train"]
