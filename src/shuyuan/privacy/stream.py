"""Random bits from a secret: the same for the same place, and to anybody without the secret like coin tosses.

ChaCha20 (RFC 8439), whose sums, turns and exclusive ors of 32-bit words a GPU does as well as a processor (`words_on_device.py`).
A block is 64 bytes; its nonce and counter name the place, so no two places share a block: 4 bytes of number (which parameter,
or what else is drawn), 8 of step, 4 of block.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

SECRET_BYTES = 32
MOST_STEPS, MOST_NUMBERS, MOST_BLOCKS = 2**63, 2**31, 2**31
BLOCK_WORDS = 8  # words of 64 bits
ELEMENTS = 4  # of noise that a block is for: two pairs of normal numbers, of three words each
LATTICE = 2.0**-28  # of the noise's deviation; `noise` says why there is one
CHUNK = 2**18  # elements of noise at once: they stay in the processor's cache
_ZEROS = bytes(2**20)


def derive(secret: bytes, purpose: str) -> bytes:
    """32 bytes for a purpose, from which neither the secret nor what others get follows.

    Args:
        secret: 32 random bytes.
        purpose: another one gives other bytes.

    Reference: Krawczyk and Eronen, "HKDF", RFC 5869.
    """
    return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=b"shuyuan/1/" + purpose.encode()).derive(
        secret
    )


class Stream:
    """Reads the bits of a secret.

    Args:
        secret: 32 random bytes.
        purpose: what the bits are for; others get others.

    Attributes:
        key: of the cipher, 32 bytes, from both.

    Example:
        >>> Stream(bytes(32), "noise").words(step=1, number=0, count=2)[0]
        np.uint64(...)
    """

    def __init__(self, secret: bytes, purpose: str) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"the secret has {len(secret)} bytes, not {SECRET_BYTES}")
        self.key = derive(secret, purpose)

    def words(self, step: int, number: int, count: int, first: int = 0) -> NDArray[np.uint64]:
        """`count` words of 64 bits of a place, from the one numbered `first` on, a multiple of 8.

        Args:
            step, number: the place: a step, and a parameter or another purpose within it.
            count: words wanted.
            first: the number of the first of them, where a block begins. Default 0.

        Raises:
            ValueError: there is no such place.
        """
        block, within = divmod(first, BLOCK_WORDS)
        check_place(step, number, block + -(-count // BLOCK_WORDS))
        if first < 0 or within:
            raise ValueError(f"no block begins at the word {first}")
        nonce = number.to_bytes(4, "little") + step.to_bytes(8, "little")
        cipher = algorithms.ChaCha20(self.key, block.to_bytes(4, "little") + nonce)
        encryptor = Cipher(cipher, None).encryptor()
        words = np.empty(count, np.uint64)
        view = words.view(np.uint8).data
        for start in range(0, len(view), len(_ZEROS)):
            part = view[start : start + len(_ZEROS)]
            encryptor.update_into(_ZEROS[: len(part)], part)
        return words


def check_place(step: int, number: int, blocks: int) -> None:
    """Refuses a place that the cipher has no name for.

    Raises:
        ValueError: step, number or the number of blocks is negative or too large.
    """
    if not 0 <= step < MOST_STEPS or not 0 <= number < MOST_NUMBERS or not 0 <= blocks < MOST_BLOCKS:
        raise ValueError(f"there is no place {step}, {number} of {blocks} blocks")
