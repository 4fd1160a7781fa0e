"""Which records are held out: by owner with a keyed hash, or the last blocks of a single text."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS = ("train", "validation", "test")


class Lottery:
    """Draws a number for each owner: the same for the same seed and owner, whatever else is in the source.

    Args:
        seed: the recipe's. A sealed and an open run of one recipe hold out the same owners.
    """

    def __init__(self, seed: int) -> None:
        self._key = seed.to_bytes(8, "little")

    def draw(self, owner: bytes) -> int:
        """A number below 2**64, evenly spread over owners."""
        digest = hashlib.blake2b(owner, digest_size=8, key=self._key, person=b"split").digest()
        return int.from_bytes(digest, "little")


def by_owner(numbers_R: NDArray[np.uint64], validation: float, test: float) -> NDArray[np.uint8]:
    """The split of each record from the number that its owner drew.

    Raising `test` from 0 moves owners from train to test and leaves validation as it is.

    Args:
        numbers_R: evenly spread over 64 bits; records of one owner have the same.
        validation, test: shares of the owners, from 0 to 1.

    Returns:
        (R,): TRAIN, VALIDATION or TEST.
    """
    share_R = numbers_R.astype(np.float64) / 2.0**64
    split_R = np.full(len(numbers_R), TRAIN, np.uint8)
    split_R[share_R < validation + test] = TEST
    split_R[share_R < validation] = VALIDATION
    return split_R


def by_place(
    lengths_R: NDArray[np.unsignedinteger[Any]], validation: float, test: float
) -> NDArray[np.uint8]:
    """The split of each block of one text: the first blocks train, the next validate, the last test.

    Each border lies at the block border nearest to the share that was asked, counted in `lengths_R`.

    Args:
        lengths_R: of the blocks, in order, in bytes.
        validation, test: shares of the text, from 0 to 1.

    Returns:
        (R,): TRAIN, VALIDATION or TEST.
    """
    middle_R = np.cumsum(lengths_R) - lengths_R / 2
    total = float(lengths_R.sum())
    split_R = np.full(len(lengths_R), TRAIN, np.uint8)
    split_R[middle_R >= total * (1 - validation - test)] = VALIDATION
    split_R[middle_R >= total * (1 - test)] = TEST
    return split_R
