"""The words of `stream` where a GPU needs them: ChaCha20 in torch's own operations, on as many blocks at once as one asks for.

A step's noise of a model of 124 million parameters takes 2 GB of words, which would come through one processor and a bus.

Legend: N blocks. A word is 32 bits, kept in an int32, whose sums wrap around as the cipher wants it.

Reference: Nir and Langley, "ChaCha20 and Poly1305 for IETF protocols", RFC 8439.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .stream import check_place

Rounds = Callable[[list[Tensor]], list[Tensor]]


def words_on_device(
    key: bytes, step: int, number_N: Tensor, block_N: Tensor, *, compiled: bool = False
) -> list[Tensor]:
    """The 16 words of some blocks, each (N,), int32.

    Args:
        key: of a `Stream`.
        step: of training.
        number_N: for each block, the parameter that it is for: int32, on the device where the words are wanted.
        block_N: for each block, which one of that parameter: int32.
        compiled: four rounds become one kernel of torch's compiler: the same words, much sooner.

    Raises:
        ValueError: there is no such step.
    """
    check_place(step, 0, 0)
    same_for_all = np.frombuffer(b"expand 32-byte k" + key + step.to_bytes(8, "little"), "<i4").tolist()
    filled = [torch.full_like(block_N, word) for word in same_for_all]
    begun = [*filled[:12], block_N, number_N, *filled[12:]]
    four_rounds = _compiled_rounds() if compiled else _four_rounds
    state = begun
    for _ in range(5):
        state = four_rounds(state)
    return [word + first for word, first in zip(state, begun, strict=True)]


@cache
def _compiled_rounds() -> Rounds:
    return torch.compile(_four_rounds, dynamic=True)


def _four_rounds(state: list[Tensor]) -> list[Tensor]:
    """The four columns, then the four diagonals, twice."""
    state = list(state)
    for shift in (0, 1, 0, 1):
        for first in range(4):
            _quarter(state, *(4 * row + (first + row * shift) % 4 for row in range(4)))
    return state


def _quarter(state: list[Tensor], a: int, b: int, c: int, d: int) -> None:
    for to, other, turned, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[to] = state[to] + state[other]
        state[turned] = _turned(state[turned] ^ state[to], by)


def _turned(word_N: Tensor, by: int) -> Tensor:
    """To the left; int32 shifts its sign in from the left, which the mask takes away."""
    return (word_N << by) | ((word_N >> (32 - by)) & ((1 << by) - 1))
