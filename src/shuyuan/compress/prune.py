"""Which weights are left out: the smallest of each matrix.

Reference: Han et al. 2015, https://arxiv.org/abs/1506.02626
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def largest(weight: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Where the weights stand that are left when a share of them, those nearest to zero, is taken out.

    Args:
        weight: of any shape.
        share: of its numbers; the nearest whole number of them goes, those that stand first where several are alike.

    Returns:
        True for what is left, in the weight's shape.
    """
    gone = round(share * weight.size)
    order = np.argsort(np.abs(weight), axis=None, kind="stable")
    left = np.ones(weight.size, np.bool_)
    left[order[:gone]] = False
    return left.reshape(weight.shape)
