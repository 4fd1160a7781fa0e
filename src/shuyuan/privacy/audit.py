"""The one-run audit: a lower bound on ε from how many planted canaries an attacker tells apart.

Each of m canaries was put into the training data or left out by a fair secret coin. After training, an attacker who sees
the model guesses the coins of some of them. If training is (ε, δ)-private, no attacker guesses right more often than a
biased coin allows, whatever the model; so many right guesses prove a larger ε. A low bound proves nothing: the attacker
may just have been weak.

Reference: Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, theorem 5.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # of all canaries that are guessed at; each is paid for
LARGEST = 50.0  # no audit of fewer than 10^21 canaries could show more


@dataclass(frozen=True)
class Verdict:
    """What an audit shows.

    Attributes:
        epsilon_lower: ε is at least so large, at the confidence; 0 where nothing is shown.
        confidence: the probability with which such a bound is right.
        ceiling: the bound that the same number of guesses would give if all were right.
        canaries: m, those that were left out included.
        guesses: r.
        correct: v.
    """

    epsilon_lower: float
    confidence: float
    ceiling: float
    canaries: int
    guesses: int
    correct: int


def audit(scores_M: NDArray[np.float64], included_M: NDArray[np.bool_], delta: float) -> Verdict:
    """The best bound over several numbers of guesses, each tried at a confidence that all of them together keep.

    Args:
        scores_M: for each canary how much speaks for its having been included; comparable among canaries.
        included_M: what the coins said.
        delta: δ of the guarantee that is tested.
    """
    each = 1 - (1 - CONFIDENCE) / len(SHARES)  # Bonferroni
    order = np.argsort(scores_M, kind="stable")
    found = []
    for share in SHARES:
        half = min(len(order) // 2, max(1, round(share * len(order) / 2)))
        correct = int(included_M[order[-half:]].sum() + (~included_M[order[:half]]).sum())
        found.append((epsilon_lower(len(order), 2 * half, correct, delta, each), 2 * half, correct))
    shown, guesses, correct = max(found, key=lambda bound: bound[0])
    ceiling = epsilon_lower(len(order), guesses, guesses, delta, each)
    return Verdict(shown, CONFIDENCE, ceiling, len(order), guesses, correct)


def epsilon_lower(
    canaries: int, guesses: int, correct: int, delta: float, confidence: float = CONFIDENCE
) -> float:
    """The largest ε that so many right guesses rule out.

    Args:
        canaries: m, also those about which nothing was guessed.
        guesses: r, fixed before the coins were looked at.
        correct: v.
        delta: δ.
        confidence: of the bound.

    Example:
        >>> round(epsilon_lower(1000, 100, 95, 1e-5), 3)
        2.165
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} right of {guesses} guesses about {canaries} canaries")
    if _chance(0.0, canaries, guesses, correct, delta) > 1 - confidence:
        return 0.0
    low, high = 0.0, LARGEST
    for _ in range(60):
        middle = (low + high) / 2
        if _chance(middle, canaries, guesses, correct, delta) < 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def _chance(epsilon: float, canaries: int, guesses: int, correct: int, delta: float) -> float:
    """An upper bound on the probability of so many right guesses under (ε, δ)."""
    from scipy import stats  # 70 MB, which only an audit should take

    right = 1 / (1 + math.exp(-epsilon))
    tail = float(stats.binom.sf(correct - 1, guesses, right))
    if delta == 0 or correct == 0:
        return tail
    # The largest mean, over i, of the probabilities of v - i … v - 1 right guesses.
    below = stats.binom.pmf(np.arange(correct - 1, -1, -1), guesses, right)
    alpha = float((np.cumsum(below) / np.arange(1, correct + 1)).max())
    return tail + 2 * canaries * delta * alpha
