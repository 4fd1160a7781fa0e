"""Which units a step sees: each by its own coin, as the accountant supposes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .stream import Stream


class PoissonSampler:
    """Draws each unit independently with the same probability at each step.

    A shuffled order, or a batch of a fixed size, is another mechanism with a weaker guarantee (Chua et al., "How private
    are DP-SGD implementations?", ICML 2024).

    Args:
        secret: 32 random bytes.
        units: how many there are.
        rate: the probability.

    Attributes:
        words: further random words of a step, from number 1 on; 0 are the coins.
    """

    def __init__(self, secret: bytes, units: int, rate: float) -> None:
        if units < 1 or not 0 < rate <= 1:
            raise ValueError(f"{units} units cannot be sampled at the rate {rate}")
        self.words = Stream(secret, "sampling").words
        self.units = units
        self.rate = rate

    def draw(self, step: int) -> NDArray[np.int64]:
        """The numbers of the units of a step, in order; there may be none.

        Args:
            step: its number; the same step always has the same units.
        """
        words = self.words(step, 0, self.units)
        if self.rate == 1:
            return np.arange(self.units)
        return np.flatnonzero(words < np.uint64(int(self.rate * 2**64)))
