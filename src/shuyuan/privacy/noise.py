"""Gaussian noise for a sum of clipped gradients, from a secret stream, on a lattice.

Why a lattice: floats near a number lie at uneven distances, so the low bits of sum + noise tell which sums can have led
there (Mironov, "On significance of the least significant bits for differential privacy", CCS 2012; against training: Jin
et al., "Are we there yet? Timing and floating-point attacks on differential privacy systems", S&P 2022). Here the sum is
rounded to multiples of a step of 2^-28 noise deviations, and so is the noise, and they are added exactly: every outcome
can come from every sum. The noise is drawn in float64 (Box and Muller 1958), its radius from a uniform number of 128
bits, so that also far from zero its draws lie closer than the lattice; it is rounded to the lattice. Rounding the sum moves
it by at most half a step an element; the clip's `ROUNDING` pays for that.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .stream import CHUNK, LATTICE, Stream, words_for

CPU = torch.device("cpu")


class Noise:
    """The noise of a run: a pure function of secret, step, parameter and element.

    Args:
        secret: 32 random bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._stream = Stream(secret, "noise")

    def add(
        self,
        total: Tensor,
        deviation: float,
        *,
        step: int,
        number: int,
        first: int = 0,
        whole: int | None = None,
    ) -> Tensor:
        """The sum with noise, in the sum's precision.

        Args:
            total: sum of clipped gradients of one parameter, any shape; or of some of its elements, one after another.
            deviation: noise multiplier times clip.
            step: of training.
            number: of the parameter.
            first: the place of the first element in the parameter.
            whole: elements of the parameter; as many as `total` has, by default.

        Returns:
            A new tensor on the device of `total`.
        """
        if deviation == 0:
            return total.clone()
        flat = total.detach().reshape(-1)
        last, whole = first + len(flat), whole or len(flat)
        noisy = torch.empty_like(flat)
        spacing = deviation * LATTICE
        for start in range(first // CHUNK * CHUNK, last, CHUNK):
            end = min(start + CHUNK, whole)
            words = self._stream.words(step, number, words_for(end - start), words_for(start))
            here = slice(max(start - first, 0), min(end, last) - first)  # in what is given
            drawn = gaussians(words, flat.device)[here.start + first - start : here.stop + first - start]
            lattice = drawn.mul_(1 / LATTICE).round_()
            lattice += (flat[here].double() / spacing).round_()  # whole numbers below 2^53 add up exactly
            noisy[here] = lattice.mul_(spacing)
        return noisy.view(total.shape)


def gaussians(words: np.ndarray[tuple[int], np.dtype[np.uint64]], device: torch.device = CPU) -> Tensor:
    """Standard normal numbers in float64, computed where they are needed: two for every three random words.

    Args:
        words: random 64-bit words, a multiple of 3.
        device: where the numbers are wanted. Default: the processor.

    Returns:
        (2 / 3 of the words,).
    """
    pairs = len(words) // 3
    high, low, turn = (words[part * pairs : (part + 1) * pairs] for part in range(3))
    # (high + low · 2^-64) · 2^-64: of full relative precision, however small. Zero would have no logarithm.
    uniform = torch.from_numpy(high * 2.0**-64 + (low + 1.0) * 2.0**-128).to(device).clamp_(max=1.0)
    radius = uniform.log_().mul_(-2).sqrt_()
    turn_53 = torch.from_numpy((turn >> np.uint64(11)).view(np.int64)).to(device)
    angle = turn_53.double().mul_(2.0**-52 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()])
