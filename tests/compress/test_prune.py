"""Which weights are left out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from shuyuan.compress.prune import largest


@given(
    arrays(np.float32, array_shapes(max_dims=3, max_side=8), elements=st.floats(-4, 4, width=32)),
    st.floats(0.01, 0.99),
)
def test_the_smallest_go_and_exactly_that_many(weight: NDArray[np.float32], share: float) -> None:
    left = largest(weight, share)
    assert left.shape == weight.shape and (~left).sum() == round(share * weight.size)
    if left.any() and not left.all():
        assert np.abs(weight[~left]).max() <= np.abs(weight[left]).min()


def test_of_equal_weights_the_first_go() -> None:
    assert largest(np.ones((2, 3), np.float32), 0.5).tolist() == [[False] * 3, [True] * 3]
