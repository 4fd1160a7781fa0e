"""Gaussian noise for sums of clipped gradients, from a secret stream, on a lattice.

Why a lattice: floats near a number lie at uneven distances, so the low bits of sum + noise tell which sums can have led
there (Mironov, "On significance of the least significant bits for differential privacy", CCS 2012; against training: Jin
et al., "Are we there yet? Timing and floating-point attacks on differential privacy systems", S&P 2022). Here the sum is
rounded to multiples of a step of 2^-28 noise deviations, and so is the noise, and they are added exactly: every outcome
can come from every sum. The noise is drawn in float64 (Box and Muller 1958), its radius from a uniform number of 128
bits, so that also far from zero its draws lie closer than the lattice; it is rounded to the lattice. Rounding the sum moves
it by at most half a step an element; the clip's `ROUNDING` pays for that.

Legend: N blocks of the stream, each for four elements of a parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .stream import BLOCK_WORDS, CHUNK, ELEMENTS, LATTICE, Stream, check_place
from .words_on_device import words_on_device

DEVICE_CHUNK = 2**24  # the same on a GPU, which takes longer to begin an operation than to do it on fewer


@dataclass(frozen=True)
class Total:
    """A sum of clipped gradients that noise is wanted for.

    Attributes:
        number: of the parameter.
        sum: of any shape; or some of the parameter's elements, one after another.
        first: the place of the first of them in the parameter.
    """

    number: int
    sum: Tensor
    first: int = 0


class Noise:
    """The noise of a run: a pure function of secret, step, parameter and element.

    Args:
        secret: 32 random bytes.
        compiled: a GPU's words are computed by kernels of torch's compiler; a processor has them from a library.
    """

    def __init__(self, secret: bytes, *, compiled: bool = False) -> None:
        self._stream = Stream(secret, "noise")
        self._compiled = compiled

    def add(self, totals: Sequence[Total], deviation: float, *, step: int) -> list[Tensor]:
        """Each sum with noise, in the sum's precision and shape: new tensors on the devices of the sums.

        Args:
            totals: the sums, on one device.
            deviation: noise multiplier times clip.
            step: of training.
        """
        if deviation == 0 or not totals:
            return [total.sum.clone() for total in totals]
        if totals[0].sum.device.type == "cpu":
            return [self._of_processor(total, deviation, step) for total in totals]
        return self._of_device(totals, deviation, step)

    def _of_processor(self, total: Total, deviation: float, step: int) -> Tensor:
        flat = total.sum.detach().reshape(-1)
        last = total.first + len(flat)
        noisy = torch.empty_like(flat)
        for start in range(total.first // CHUNK * CHUNK, last, CHUNK):
            low, high = max(start, total.first), min(start + CHUNK, last)
            block, end = low // ELEMENTS, -(-high // ELEMENTS)
            words = self._stream.words(step, total.number, BLOCK_WORDS * (end - block), BLOCK_WORDS * block)
            drawn = gaussians(words)[low - ELEMENTS * block : high - ELEMENTS * block]
            here = slice(low - total.first, high - total.first)
            noisy[here] = on_lattice(flat[here], drawn, deviation)
        return noisy.view(total.sum.shape)

    def _of_device(self, totals: Sequence[Total], deviation: float, step: int) -> list[Tensor]:
        """Many parameters at once, a part of a large one at a time: to begin hundreds of operations for each takes longer than to do
        them, and what they take in between is little beside the sums."""
        outcomes = [torch.empty_like(total.sum, memory_format=torch.contiguous_format) for total in totals]
        for group in _groups(totals, outcomes):
            of_group = self._together([total for total, _ in group], deviation, step)
            for (_, outcome), noisy in zip(group, of_group, strict=True):
                outcome.copy_(noisy)
        return outcomes

    def _together(self, totals: Sequence[Total], deviation: float, step: int) -> list[Tensor]:
        spans = [Span.of(total) for total in totals]
        for total, span in zip(totals, spans, strict=True):
            check_place(step, total.number, span.first + span.count)
        device = totals[0].sum.device
        numbers = torch.tensor([total.number for total in totals], dtype=torch.int32, device=device)
        counts = torch.tensor([span.count for span in spans], device=device)
        number_N = numbers.repeat_interleave(counts, output_size=sum(span.count for span in spans))
        block_N = torch.cat([span.blocks(device) for span in spans])
        flat = torch.cat([span.filled(total.sum) for span, total in zip(spans, totals, strict=True)])
        words = words_on_device(self._stream.key, step, number_N, block_N, compiled=self._compiled)
        noisy = (_compiled_noisy() if self._compiled else noisy_of)(flat, words, deviation)
        pieces = torch.split(noisy, [ELEMENTS * span.count for span in spans])
        return [
            span.taken(piece, total.sum) for span, piece, total in zip(spans, pieces, totals, strict=True)
        ]


def _groups(totals: Sequence[Total], outcomes: list[Tensor]) -> Iterator[list[tuple[Total, Tensor]]]:
    """Sums and where their outcomes go, in pieces of sums of at most `DEVICE_CHUNK` elements together."""
    group: list[tuple[Total, Tensor]] = []
    room = DEVICE_CHUNK
    for total, outcome in zip(totals, outcomes, strict=True):
        flat, flat_outcome = total.sum.detach().reshape(-1), outcome.view(-1)
        start = 0
        while start < len(flat):
            end = min(len(flat), start + room)
            group.append((Total(total.number, flat[start:end], total.first + start), flat_outcome[start:end]))
            room, start = room - (end - start), end
            if not room:
                yield group
                group, room = [], DEVICE_CHUNK
    if group:
        yield group


@dataclass(frozen=True)
class Span:
    """The blocks that the elements of a sum are in.

    Attributes:
        first: the first block.
        count: of blocks.
        before: elements of the first block that come before the sum's own.
    """

    first: int
    count: int
    before: int

    @classmethod
    def of(cls, total: Total) -> Span:
        first, before = divmod(total.first, ELEMENTS)
        return cls(first, -(-(before + total.sum.numel()) // ELEMENTS), before)

    def blocks(self, device: torch.device) -> Tensor:
        """Their numbers, int32."""
        return torch.arange(self.first, self.first + self.count, dtype=torch.int32, device=device)

    def filled(self, total: Tensor) -> Tensor:
        """The sum in a row, with zeros for those elements of its blocks that are not its own."""
        after = ELEMENTS * self.count - self.before - total.numel()
        return F.pad(total.detach().reshape(-1), (self.before, after))

    def taken(self, noisy: Tensor, total: Tensor) -> Tensor:
        """The elements of a sum, without those beside them."""
        return noisy[self.before : self.before + total.numel()]


def on_lattice(total: Tensor, drawn: Tensor, deviation: float) -> Tensor:
    """Sum plus noise, both rounded to the lattice.

    Args:
        total: any precision (E,).
        drawn: standard normal numbers, float64 (E,); overwritten.
        deviation: of the noise.

    Returns:
        Float64 (E,).
    """
    spacing = deviation * LATTICE
    lattice = drawn.mul_(1 / LATTICE).round_()
    lattice += (total.double() / spacing).round_()  # whole numbers below 2^53 add up exactly
    return lattice.mul_(spacing)


def noisy_of(total: Tensor, words: list[Tensor], deviation: float) -> Tensor:
    """Sums with the noise of some blocks: `on_lattice` of `gaussians_of_halves`."""
    return on_lattice(total, gaussians_of_halves(words), deviation)


@cache
def _compiled_noisy() -> Callable[[Tensor, list[Tensor], float], Tensor]:
    return torch.compile(noisy_of, dynamic=True)


def gaussians(words: NDArray[np.uint64]) -> Tensor:
    """Standard normal numbers of whole blocks, in float64 on the processor.

    Args:
        words: random 64-bit words, eight a block, of which six are used.

    Returns:
        (4 for each block,).
    """
    columns = words.reshape(-1, BLOCK_WORDS).T

    def pair(at: int) -> tuple[Tensor, Tensor]:
        turn = columns[at + 2] >> np.uint64(11)
        return _pair(
            *(
                torch.from_numpy(words_N.astype(np.float64))
                for words_N in (columns[at], columns[at + 1], turn)
            )
        )

    return torch.stack([*pair(0), *pair(3)], 1).flatten()


def gaussians_of_halves(words: list[Tensor]) -> Tensor:
    """The same of blocks whose words are in halves, on any device.

    Args:
        words: the 16 words of 32 bits of each block, (N,) each, int32.

    Returns:
        (4 N,).
    """
    low_halves, high_halves = words[::2], words[1::2]

    def whole(at: int) -> Tensor:
        return _unsigned(high_halves[at]).double() * 2.0**32 + _unsigned(low_halves[at]).double()

    def turn(at: int) -> Tensor:
        return ((_unsigned(high_halves[at]) << 21) | (_unsigned(low_halves[at]) >> 11)).double()

    pairs = (_pair(whole(at), whole(at + 1), turn(at + 2)) for at in (0, 3))
    return torch.stack([number for pair in pairs for number in pair], 1).flatten()


def _pair(high_N: Tensor, low_N: Tensor, turn_N: Tensor) -> tuple[Tensor, Tensor]:
    """Two normal numbers of a uniform one in (0, 1], of 128 bits in two halves, and an angle of 53 bits; all float64."""
    # (high + low · 2^-64) · 2^-64: of full relative precision, however small. Zero would have no logarithm.
    uniform_N = (high_N * 2.0**-64 + (low_N + 1.0) * 2.0**-128).clamp_(max=1.0)
    radius_N = uniform_N.log_().mul_(-2).sqrt_()
    angle_N = turn_N * (2.0**-52 * math.pi)
    return radius_N * angle_N.cos(), radius_N * angle_N.sin()


def _unsigned(word_N: Tensor) -> Tensor:
    return word_N.long() & 0xFFFFFFFF
