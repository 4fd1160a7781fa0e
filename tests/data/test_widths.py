"""Rows computed in parts of about one width: what is said of each is what would be said of all at once, and less is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shuyuan.data.widths import FILL, SHARES, by_width


def rows(lengths: list[int]) -> NDArray[np.int64]:
    found = np.full((len(lengths), max(lengths)), FILL)
    for number, length in enumerate(lengths):
        found[number, :length] = np.arange(length) + 1000 * number
    return found


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40))
def test_each_row_gets_what_is_said_of_it(lengths: list[int]) -> None:
    seen = []

    def compute(part: NDArray[Any]) -> NDArray[Any]:
        seen.append(part.size)
        return np.stack([np.where(part == FILL, 0, part).sum(1), (part != FILL).sum(1)], 1)

    inputs = rows(lengths)
    found = by_width(compute, inputs)
    assert found[:, 0].tolist() == [sum(row[row != FILL].tolist()) for row in inputs]
    assert found[:, 1].tolist() == lengths


def test_short_rows_are_not_computed_as_wide_as_the_longest() -> None:
    sizes = []

    def compute(part: NDArray[Any]) -> NDArray[Any]:
        sizes.append(part.size)
        return part[:, 0]

    inputs = rows([8] * 56 + [250] * 8)
    by_width(compute, inputs)
    assert sum(sizes) < inputs.size / 4 and len(sizes) <= SHARES
    assert max(sizes) < inputs.size / 4


def test_images_are_computed_as_they_are() -> None:
    images = np.zeros((3, 1, 8, 8), np.uint8)
    assert by_width(lambda part: part.sum((1, 2, 3)), images).shape == (3,)
