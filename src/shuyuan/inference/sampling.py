"""Which token comes next: pure functions on logits.

Shapes: V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ShuyuanError


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


def probabilities(logits_V: Tensor, sampling: Sampling) -> Tensor:
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
    logits_V = logits_V.float()
    best = logits_V.max()
    if not torch.isfinite(best):  # the maximum is NaN as soon as one logit is
        raise ShuyuanError(
            "inference.no-numbers",
            "The model's output is not a number.",
            mend="Its weights are damaged or training diverged: train again, or use another copy.",
        )
    if sampling.temperature == 0:
        return torch.zeros_like(logits_V).index_fill_(0, logits_V.argmax(), 1.0)
    temperature = max(sampling.temperature, 1e-30)  # in float32 a smaller one may be 0, and 0 / 0 is NaN
    probabilities_V = ((logits_V - best) / temperature).softmax(-1)
    if sampling.top_k is not None and sampling.top_k < len(logits_V):
        ranks_V = logits_V.argsort(descending=True, stable=True)
        probabilities_V[ranks_V[sampling.top_k :]] = 0.0
        probabilities_V /= probabilities_V.sum()
    if sampling.top_p is not None and sampling.top_p < 1:
        sorted_V, ranks_V = probabilities_V.sort(descending=True, stable=True)
        reached_V = sorted_V.cumsum(-1, dtype=torch.float64)
        enough_V = reached_V - sorted_V >= sampling.top_p  # the likelier ones reach it without this one
        probabilities_V[ranks_V[enough_V]] = 0.0
        probabilities_V /= probabilities_V.sum()
    return probabilities_V


def choose(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Draws the next token; one number is taken from the generator, none when the temperature is 0.

    Args:
        logits_V: of one position, on the CPU.
        sampling: the settings.
        generator: a CPU generator; it alone decides between the tokens.

    Raises:
        ShuyuanError: as `probabilities`.
    """
    probabilities_V = probabilities(logits_V, sampling)
    if sampling.temperature == 0:
        return int(probabilities_V.argmax())
    reached_V = probabilities_V.cumsum(-1, dtype=torch.float64)
    point = torch.rand((), generator=generator, dtype=torch.float64) * reached_V[-1]
    # The first token whose sum lies above the point: one of probability 0 adds nothing and is never it.
    return int(torch.searchsorted(reached_V, point, right=True))


def bad_setting(name: str, value: object, allowed: str) -> ShuyuanError:
    """The error for a generation setting that makes no sense."""
    return ShuyuanError(
        "inference.bad-setting", f"`{name}` = {value} is refused.", mend=f"It must be {allowed}."
    )
