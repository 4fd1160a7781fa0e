"""Random bits from a secret: the same for the same place, and to anybody without the secret like coin tosses.

AES-256 in counter mode (NIST SP 800-38A). The counter's 16 bytes name the place, so no two places share a block:
6 bytes of step, 4 of number (which parameter, or what else is drawn), 6 of block.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

SECRET_BYTES = 32
MOST_STEPS, MOST_NUMBERS = 2**48, 2**32
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


def words_for(count: int) -> int:
    """Random words that so many numbers of noise take: three a pair.

    Args:
        count: numbers of noise.
    """
    return 3 * (-(-count // 2))


class Stream:
    """Reads the bits of a secret.

    Args:
        secret: 32 random bytes.
        purpose: what the bits are for; others get others.

    Example:
        >>> Stream(bytes(32), "noise").words(step=1, number=0, count=2)[0]
        np.uint64(...)
    """

    def __init__(self, secret: bytes, purpose: str) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"the secret has {len(secret)} bytes, not {SECRET_BYTES}")
        self._cipher = algorithms.AES(derive(secret, purpose))

    def words(self, step: int, number: int, count: int, first: int = 0) -> NDArray[np.uint64]:
        """`count` words of 64 bits of a place, from the one numbered `first` on, an even number.

        Args:
            step, number: the place: a step, and a parameter or another purpose within it.
            count: words wanted.
            first: the number of the first of them, even. Default 0.

        Raises:
            ValueError: there is no such place.
        """
        if not 0 <= step < MOST_STEPS or not 0 <= number < MOST_NUMBERS or first % 2:
            raise ValueError(f"there is no place {step}, {number}, {first}")
        place = step.to_bytes(6, "big") + number.to_bytes(4, "big") + (first // 2).to_bytes(6, "big")
        encryptor = Cipher(self._cipher, modes.CTR(place)).encryptor()
        words = np.empty(count, np.uint64)
        view = words.view(np.uint8).data
        for start in range(0, len(view), len(_ZEROS)):
            part = view[start : start + len(_ZEROS)]
            encryptor.update_into(_ZEROS[: len(part)], part)
        return words
