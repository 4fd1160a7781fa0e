"""The learning rate over time: one factor for all parameters, a pure function of the step (save for plateau).

References: cosine, Loshchilov and Hutter 2017 (arXiv 1608.03983); warm up, stay, decay (wsd), Hägele et al. 2024
(arXiv 2405.18392).
"""

from __future__ import annotations

import math
from typing import Any

from ..recipe import Train

PATIENCE = 1  # evaluations in a row without a better loss, after which plateau halves the rate
BETTER = 0.002  # share by which the loss must fall to count as better


class Schedule:
    """The factor on the peak learning rate, step by step.

    Args:
        train: the recipe's section; its `schedule`, `warmup` and `decay` (shares of the steps) are read.
        steps: how many steps the run has.
    """

    def __init__(self, train: Train, steps: int) -> None:
        self.kind = train.schedule
        self.steps = steps
        self.warmup_steps = math.ceil(train.warmup * steps)
        self.decay_steps = round(train.decay * steps)
        self.best: float | None = None  # plateau only, as are the two below
        self.worse = 0
        self.plateau = 1.0

    def factor(self, step: int) -> float:
        """The factor for `step` (1 to steps): above 0 at both ends, and at most 1."""
        if step <= self.warmup_steps:
            return self.plateau * step / (self.warmup_steps + 1)
        if self.kind == "plateau":
            return self.plateau
        if self.kind == "constant":
            return 1.0
        if self.kind == "wsd":
            return min(1.0, (self.steps + 1 - step) / (self.decay_steps + 1))
        left = (self.steps + 1 - step) / (self.steps - self.warmup_steps)
        return left if self.kind == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)

    def validated(self, loss: float) -> None:
        """Hears of a validation loss; only plateau listens."""
        if self.kind != "plateau":
            return
        if self.best is None or loss < self.best * (1 - BETTER):
            self.best, self.worse = loss, 0
            return
        self.worse += 1
        if self.worse >= PATIENCE:
            self.plateau, self.worse = self.plateau / 2, 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold; everything else follows from the step."""
        return {"best": self.best, "worse": self.worse, "plateau": self.plateau}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint's `state`."""
        self.best, self.worse = state.get("best"), state.get("worse", 0)
        self.plateau = state.get("plateau", 1.0)
