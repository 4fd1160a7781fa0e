"""How sure a classifier may be: its logits are divided by one number, found on held-out records after the last step.

Whoever has learned its records by heart is surer than it is right. Which label is the likeliest stays the same.

Reference: Guo, Pleiss, Sun and Weinberger 2017, On calibration of modern neural networks (arXiv 1706.04599).

Legend: N records, K classes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Images, Rows, by_width
from ..data.batches import at_step
from .framework import Framework

FEWEST = 100  # records that tell more than chance does
MOST = 4096  # that are looked at, unless fewer are asked for
COLDEST, HOTTEST = 1 / 16, 16.0
HALVINGS = 40


def temperature(logits_NK: NDArray[np.floating[Any]], right: NDArray[np.integer[Any]]) -> float:
    """The number by which logits must be divided for the least mean cross entropy; between COLDEST and HOTTEST.

    The cross entropy is convex in its reciprocal, so that halving an interval by the sign of the slope finds it.

    Args:
        logits_NK: of held-out records.
        right: the class of each (N,), or ones for all labels that it has (N, K).
    """
    many = right.ndim == 2
    right_NK = right if many else np.eye(logits_NK.shape[1])[right]
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        shares_NK = (_each if many else _one_of)(middle * logits_NK)
        slope = float(((shares_NK - right_NK) * logits_NK).sum())
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 2 / (low + high)


def _each(logits_NK: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The probability of each label by itself."""
    return (1 + np.tanh(logits_NK / 2)) / 2


def _one_of(logits_NK: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The probabilities of classes of which one is right."""
    shares_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
    found_NK: NDArray[np.floating[Any]] = shares_NK / shares_NK.sum(1, keepdims=True)
    return found_NK


def temper(framework: Framework, model: Any, records: Rows | Images, at_once: int, most: int = MOST) -> float:
    """Divides the logits of a classifier, by dividing its head; gives the number, 1.0 where records are too few.

    Args:
        framework: of the model.
        model: a network with labels; its head is changed.
        records: held out.
        at_once: of them that are computed together.
        most: of them that are looked at, drawn from all over.
    """
    count = min(most, records.count)
    if count < FEWEST:
        return 1.0
    numbers = at_step(0, count, records.count, 0)
    batches = [records.at(part) for part in np.split(numbers, range(at_once, count, at_once))]
    logits = partial(framework.logits, model)
    logits_NK = np.concatenate([by_width(logits, inputs) for inputs, _ in batches])
    number = temperature(logits_NK, np.concatenate([targets[:, 0] for _, targets in batches]))
    framework.divide_logits(model, number)
    return number
