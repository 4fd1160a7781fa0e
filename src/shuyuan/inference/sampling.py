"""Which token comes next: pure functions on logits.

Shapes: V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ShuyuanError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Args:
        temperature: logits are divided by it; 0 takes the likeliest token always. Default 0.8.
        top_k: only the k likeliest tokens may be drawn. Left out: all.
        top_p: only the likeliest tokens that together reach this probability may be drawn, after `top_k`
            (https://arxiv.org/abs/1904.09751). Left out: all.

    Raises:
        ShuyuanError: a setting makes no sense.
    """

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise bad_setting("temperature", self.temperature, "0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise bad_setting("top_k", self.top_k, "at least 1, or left out")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise bad_setting("top_p", self.top_p, "above 0 and at most 1, or left out")


class Points:
    """Random numbers from 0 up to 1, one after another, which a seed decides.

    Args:
        seed: 0 to 2**63 - 1; its low 32 bits count.
    """

    def __init__(self, seed: int) -> None:
        self._twister = np.random.RandomState(seed & 0xFFFFFFFF)
        self.drawn = 0

    def next(self) -> float:
        """The next number, a multiple of 2^-53; the one that torch.rand would draw in float64 from this seed."""
        self.drawn += 1
        high, low = self._twister.randint(0, 2**32, 2, dtype=np.uint32).tolist()
        return float(((high << 32) | low) & ((1 << 53) - 1)) * 2.0**-53


def probabilities(logits_V: Floats, sampling: Sampling) -> Floats:
    """The distribution that the next token is drawn from.

    Equal logits rank by token id, so that what is kept does not depend on how a sort breaks ties.

    Args:
        logits_V: of one position; -inf forbids a token.
        sampling: the settings.

    Returns:
        probabilities_V, float32; they sum to one.

    Raises:
        ShuyuanError: the logits hold NaN or infinity, or allow no token.
    """
    logits_V = logits_V.astype(np.float32, copy=False)
    best = logits_V.max()
    if not np.isfinite(best):  # the maximum is NaN as soon as one logit is
        raise not_a_number()
    if sampling.temperature == 0:
        certain_V = np.zeros_like(logits_V)
        certain_V[logits_V.argmax()] = 1.0
        return certain_V
    temperature = max(sampling.temperature, 1e-30)  # in float32 a smaller one may be 0, and 0 / 0 is NaN
    with np.errstate(over="ignore"):  # far below the best is -inf, and never drawn
        probabilities_V: Floats = np.exp((logits_V - best) / np.float32(temperature))
    probabilities_V /= probabilities_V.sum()
    if sampling.top_k is not None and sampling.top_k < len(logits_V):
        ranks_V = np.argsort(-logits_V, kind="stable")
        probabilities_V[ranks_V[sampling.top_k :]] = 0.0
        probabilities_V /= probabilities_V.sum()
    if sampling.top_p is not None and sampling.top_p < 1:
        ranks_V = np.argsort(-probabilities_V, kind="stable")
        sorted_V = probabilities_V[ranks_V]
        reached_V = sorted_V.cumsum(dtype=np.float64)
        enough_V = reached_V - sorted_V >= sampling.top_p  # the likelier ones reach it without this one
        probabilities_V[ranks_V[enough_V]] = 0.0
        probabilities_V /= probabilities_V.sum()
    return probabilities_V


def choose(logits_V: Floats, sampling: Sampling, points: Points) -> int:
    """Draws the next token; one number is taken from the points, none when the temperature is 0.

    Args:
        logits_V: of one position.
        sampling: the settings.
        points: they alone decide between the tokens.

    Raises:
        ShuyuanError: as `probabilities`.
    """
    if sampling.temperature == 0:
        likeliest = int(logits_V.argmax())  # NaN, if there is one
        if not np.isfinite(logits_V[likeliest]):
            raise not_a_number()
        return likeliest
    probabilities_V = probabilities(logits_V, sampling)
    reached_V = probabilities_V.cumsum(dtype=np.float64)
    point = points.next() * reached_V[-1]
    # The first token whose sum lies above the point: one of probability 0 adds nothing and is never it.
    return int(np.searchsorted(reached_V, point, side="right"))


def log_probabilities(logits_V: Floats) -> NDArray[np.float64]:
    """The logarithm of each token's probability, before temperature.

    Args:
        logits_V: of V tokens.

    Raises:
        ShuyuanError: the logits hold NaN or infinity, or allow no token.
    """
    best = float(logits_V.max())
    if not math.isfinite(best):
        raise not_a_number()
    shifted_V = logits_V.astype(np.float64) - best
    logs_V: NDArray[np.float64] = shifted_V - math.log(np.exp(shifted_V).sum())
    return logs_V


def not_a_number() -> ShuyuanError:
    """The error for a model that has diverged."""
    return ShuyuanError(
        "inference.no-numbers",
        "The model's output is not a number.",
        mend="Its weights are damaged or training diverged: train again, or use another copy.",
    )


def bad_setting(name: str, value: object, allowed: str) -> ShuyuanError:
    """The error for a generation setting that makes no sense.

    Args:
        name: the setting's, as it is given.
        value: what it is.
        allowed: what it may be, behind "It must be".
    """
    return ShuyuanError(
        "inference.bad-setting", f"`{name}` = {value} is refused.", mend=f"It must be {allowed}."
    )
