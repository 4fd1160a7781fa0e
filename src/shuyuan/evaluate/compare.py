"""Whether one model does better than another on the same records, or by luck alone.

Legend: N records.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..tasks.measures import interval

FLIPS = 10_000  # of the randomization test
SEED = 0


def compared(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """The mean difference of two models' scores on the same records.

    Args:
        ours: a score for each record.
        theirs: of the other model, in the same order.

    Returns:
        {difference, difference_low, difference_high, p_value}: ours less theirs with its 95 % interval, a percentile bootstrap
        over records; and how often a difference as large comes by luck: McNemar's exact test where every score is 0 or 1, else
        approximate randomization.

    Reference: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947; Noreen,
    "Computer-intensive methods for testing hypotheses", 1989.
    """
    ours_N, theirs_N = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    apart_N = ours_N - theirs_N
    mean, low, high = interval(apart_N.tolist())
    binary = bool(np.isin(ours_N, (0, 1)).all() and np.isin(theirs_N, (0, 1)).all())
    chance = _mcnemar(apart_N) if binary else _randomized(apart_N)
    return {"difference": mean, "difference_low": low, "difference_high": high, "p_value": chance}


def _mcnemar(apart_N: NDArray[np.float64]) -> float:
    """Of the records that one model alone gets right, how likely a share as uneven is if each falls to either by a fair coin."""
    from scipy.stats import binomtest

    better, worse = int((apart_N > 0).sum()), int((apart_N < 0).sum())
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def _randomized(apart_N: NDArray[np.float64]) -> float:
    """The share of fair swaps of both models' scores, record by record, after which they are as far apart."""
    random = np.random.default_rng(SEED)
    seen = abs(float(apart_N.sum())) * (1 - 1e-12)  # rounding is no difference
    as_far = sum(
        abs(float(np.where(random.random(len(apart_N)) < 0.5, apart_N, -apart_N).sum())) >= seen
        for _ in range(FLIPS)
    )
    return (int(as_far) + 1) / (FLIPS + 1)
