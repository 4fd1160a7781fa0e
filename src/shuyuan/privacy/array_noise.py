"""The noise of `noise` for arrays, without torch: the same secret, places, words and lattice; that module gives the reasons."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .stream import BLOCK_WORDS, CHUNK, ELEMENTS, LATTICE, Stream


class ArrayNoise:
    """The noise of a run: a pure function of secret, step, parameter and element.

    Args:
        secret: 32 random bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._stream = Stream(secret, "noise")

    def add(
        self, total: NDArray[np.float32], deviation: float, *, step: int, number: int
    ) -> NDArray[np.float32]:
        """The sum with noise. Its last place may differ from torch's, which has another logarithm.

        Args:
            total: sum of clipped gradients of one parameter, any shape.
            deviation: noise multiplier times clip.
            step: of training.
            number: of the parameter.
        """
        if deviation == 0:
            return total.copy()
        flat = total.reshape(-1)
        noisy = np.empty_like(flat)
        spacing = deviation * LATTICE
        for start in range(0, len(flat), CHUNK):
            part = flat[start : start + CHUNK]
            blocks = -(-len(part) // ELEMENTS)
            words = self._stream.words(step, number, BLOCK_WORDS * blocks, BLOCK_WORDS * (start // ELEMENTS))
            # Whole numbers below 2^53 add up exactly.
            lattice = np.rint(gaussians(words)[: len(part)] / LATTICE)
            lattice += np.rint(part.astype(np.float64) / spacing)
            noisy[start : start + CHUNK] = lattice * spacing
        return noisy.reshape(total.shape)


def gaussians(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Standard normal numbers of whole blocks: four for every eight random words, of which six are used."""
    columns = words.reshape(-1, BLOCK_WORDS).T
    return np.stack([*_pair(*columns[:3]), *_pair(*columns[3:6])], 1).reshape(-1)


def _pair(
    high: NDArray[np.uint64], low: NDArray[np.uint64], turn: NDArray[np.uint64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    uniform = np.minimum(high * 2.0**-64 + (low + 1.0) * 2.0**-128, 1.0)
    radius = np.sqrt(-2.0 * np.log(uniform))
    angle = (turn >> np.uint64(11)) * (2.0**-52 * math.pi)
    return radius * np.cos(angle), radius * np.sin(angle)
