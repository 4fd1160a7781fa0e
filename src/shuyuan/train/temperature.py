"""How sure a classifier of n-grams may be: its logits are divided by one number, found on held-out records after the last step.

Whoever has learned its records by heart is surer than it is right. Which label is the likeliest stays the same.

Reference: Guo, Pleiss, Sun and Weinberger 2017, On calibration of modern neural networks (arXiv 1706.04599).

Legend: N records, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import AnyBatch

FEWEST = 100  # records that tell more than chance does
MOST = 4096  # that are looked at
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


def temper(model: Any, batches: Iterable[AnyBatch]) -> float:
    """Divides the logits of a classifier of n-grams, by dividing its head; gives the number, 1.0 where records are too few.

    Args:
        model: a `NgramClassifier`; its head is changed.
        batches: (tokens, classes) of held-out records.
    """
    import torch

    device, found, labels = model.score.weight.device, [], []
    model.eval()
    with torch.inference_mode():
        for tokens_BT, targets_B1 in batches:
            found.append(model(torch.from_numpy(tokens_BT).to(device)).double().cpu().numpy())
            labels.append(targets_B1[:, 0])
            if sum(map(len, labels)) >= MOST:
                break
    if sum(map(len, labels)) < FEWEST:
        return 1.0
    number = temperature(np.concatenate(found), np.concatenate(labels))
    with torch.no_grad():
        for weight in model.score.parameters():
            weight.div_(number)
    return number
