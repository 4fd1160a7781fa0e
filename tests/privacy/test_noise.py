"""Noise: Gaussian at exactly the deviation asked, from the secret alone, on a lattice; sampling: a coin for each unit."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import shuyuan.privacy.noise
from shuyuan.privacy.noise import Noise, Total, gaussians, gaussians_of_halves
from shuyuan.privacy.sampling import PoissonSampler
from shuyuan.privacy.stream import BLOCK_WORDS, CHUNK, ELEMENTS, LATTICE, Stream
from shuyuan.privacy.words_on_device import words_on_device

SECRET, OTHER = bytes(range(32)), bytes(32)
MANY = 400_001  # odd, and more than one chunk


def noisy(
    total: torch.Tensor, deviation: float, *, step: int, number: int, first: int = 0, secret: bytes = SECRET
) -> torch.Tensor:
    (outcome,) = Noise(secret).add([Total(number, total, first)], deviation, step=step)
    return outcome


def drawn(step: int = 1, number: int = 0, secret: bytes = SECRET, count: int = MANY) -> torch.Tensor:
    return noisy(torch.zeros(count), 3.0, step=step, number=number, secret=secret)


def test_mean_deviation_and_tails_are_those_of_a_gaussian() -> None:
    noise = drawn().double() / 3.0
    root = math.sqrt(MANY)
    assert abs(noise.mean()) < 5 / root
    assert abs(noise.std() - 1) < 5 / (math.sqrt(2) * root)  # halved noise, or twice as much, is far outside
    assert abs((noise**4).mean() - 3) < 5 * math.sqrt(96) / root
    for bound in (0.5, 1.0, 2.0, 3.0, 4.0):
        share, expected = float((noise.abs() > bound).double().mean()), math.erfc(bound / math.sqrt(2))
        assert abs(share - expected) < 5 * math.sqrt(expected / MANY)


def test_neighbouring_elements_are_independent() -> None:
    noise = drawn().double() / 3.0
    half = MANY // 2
    for other in (noise[1:], noise[half:], noise[CHUNK // 2 :]):
        count = len(other)
        assert abs((noise[:count] * other).mean()) < 5 / math.sqrt(count)
        assert abs((noise[:count] ** 2 * other**2).mean() - 1) < 5 * math.sqrt(8 / count)


def test_it_is_a_function_of_secret_step_and_parameter_alone() -> None:
    assert torch.equal(drawn(), drawn())
    for other in (drawn(step=2), drawn(number=1), drawn(secret=OTHER)):
        assert abs((drawn() * other).double().mean()) / 9 < 5 / math.sqrt(MANY)
        assert not torch.equal(drawn(), other)


def test_an_element_does_not_depend_on_how_the_parameter_is_shaped() -> None:
    flat = noisy(torch.zeros(12), 1.0, step=1, number=0)
    assert torch.equal(noisy(torch.zeros(3, 4), 1.0, step=1, number=0), flat.view(3, 4))


@given(st.integers(0, MANY), st.integers(0, MANY))
@example(CHUNK - 1, CHUNK + 1)
@example(CHUNK, MANY)
@example(5, 5)
@settings(max_examples=20, deadline=None)
def test_who_has_some_elements_draws_what_they_get_in_the_whole(one: int, other: int) -> None:
    first, last = sorted((one, other))
    total = torch.arange(MANY) / MANY
    whole = noisy(total, 3.0, step=1, number=2)
    part = noisy(total[first:last], 3.0, step=1, number=2, first=first)
    assert torch.equal(part, whole[first:last])


@pytest.mark.parametrize("deviation", [1e-3, 1.0, 37.5])
def test_every_outcome_lies_on_the_lattice(deviation: float) -> None:
    total = torch.randn(1000, dtype=torch.float64) * deviation
    outcome = noisy(total, deviation, step=1, number=0)

    def off_the_lattice(x: torch.Tensor) -> float:
        places = x / (deviation * LATTICE)
        return float((places - places.round()).abs().max())

    assert off_the_lattice(outcome) < 1e-6 < off_the_lattice(total)


def test_the_sum_is_kept_up_to_half_a_lattice_step() -> None:
    total = torch.randn(1000, dtype=torch.float64)
    none = noisy(torch.zeros(1000, dtype=torch.float64), 2.0, step=1, number=0)
    moved = noisy(total, 2.0, step=1, number=0) - none - total
    assert moved.abs().max() <= 2.0 * LATTICE / 2 * (1 + 1e-6)


def test_without_noise_the_sum_stays() -> None:
    total = torch.randn(5)
    assert torch.equal(noisy(total, 0.0, step=1, number=0), total)


def blocks_of(high: np.ndarray, low: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Blocks whose first pair has these words, and whose second has them the other way round."""
    nothing = np.zeros_like(high)
    return np.stack([high, low, turn, high[::-1], low[::-1], turn[::-1], nothing, nothing], 1).reshape(-1)


def test_the_extreme_words_give_finite_numbers() -> None:
    ends = np.array([0, 2**64 - 1], np.uint64)
    assert bool(gaussians(blocks_of(ends, ends, ends)).isfinite().all())
    none = np.zeros(1, np.uint64)
    assert gaussians(blocks_of(none, none, none))[0] == pytest.approx(math.sqrt(2 * 128 * math.log(2)))


def test_far_from_zero_draws_lie_closer_than_the_lattice() -> None:
    """With 53 bits, neighbouring radii near six deviations would lie further apart than the lattice's steps."""
    high, low = 2**36, np.arange(1000, dtype=np.uint64) * np.uint64(2**54)  # about 1e-8 of (0, 1]
    words = blocks_of(np.full(1000, high, np.uint64), low, np.zeros(1000, np.uint64))
    radii = gaussians(words)[::ELEMENTS]
    assert radii[0] > 6
    steps = (radii[:-1] - radii[1:]).abs()
    assert steps.max() < LATTICE


# ---- the stream ----------------------------------------------------------------------------------------------------

# RFC 8439, 2.3.2: key 00, 01, …, 1f, nonce 000000090000004a00000000, block 1.
RFC_BLOCK = bytes.fromhex(
    "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
    "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
)
RFC_NUMBER, RFC_STEP = 0x09000000, 0x4A000000


def test_the_stream_is_chacha20_of_the_rfc() -> None:
    stream = Stream(SECRET, "noise")
    assert not np.array_equal(stream.words(3, 2, 4), Stream(SECRET, "sampling").words(3, 2, 4))
    stream.key = SECRET  # in place of one that follows from it
    assert stream.words(RFC_STEP, RFC_NUMBER, BLOCK_WORDS, BLOCK_WORDS).tobytes() == RFC_BLOCK


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 8))
@example(RFC_STEP, RFC_NUMBER, 1)
@settings(max_examples=30, deadline=None)
def test_a_device_computes_the_words_of_the_library(step: int, number: int, block: int) -> None:
    stream = Stream(SECRET, "noise")
    block_N = torch.arange(block, block + 5, dtype=torch.int32)
    numbers_N = torch.full_like(block_N, number)
    ours = torch.stack(words_on_device(stream.key, step, numbers_N, block_N), 1).numpy().tobytes()
    assert ours == stream.words(step, number, 5 * BLOCK_WORDS, BLOCK_WORDS * block).tobytes()


def test_halves_of_words_give_the_same_numbers() -> None:
    words = np.random.default_rng(0).integers(0, 2**64, 1000 * BLOCK_WORDS, np.uint64)
    words[:BLOCK_WORDS] = 2**64 - 1
    words[BLOCK_WORDS : 2 * BLOCK_WORDS] = 0
    halves = torch.from_numpy(words.view(np.int32).reshape(-1, 2 * BLOCK_WORDS).copy())
    assert torch.equal(gaussians_of_halves([*halves.T]), gaussians(words))


@given(st.lists(st.tuples(st.integers(1, 9000), st.integers(0, 5000)), min_size=1, max_size=6))
@example([(4096, 0), (4096, 1)])
@settings(max_examples=20, deadline=None)
def test_a_device_adds_the_noise_that_a_processor_adds(parts: list[tuple[int, int]]) -> None:
    noise = Noise(SECRET)
    totals = [
        Total(number, torch.arange(count) / count, first) for number, (count, first) in enumerate(parts, 7)
    ]
    with mock.patch.object(shuyuan.privacy.noise, "DEVICE_CHUNK", 4096):  # pieces and groups
        theirs = noise._of_device(totals, 2.0, 5)
    for total, ours in zip(totals, theirs, strict=True):
        assert ours.dtype == total.sum.dtype and ours.shape == total.sum.shape
        assert torch.equal(ours, noise.add([total], 2.0, step=5)[0])


def test_long_streams_go_on_where_short_ones_end() -> None:
    stream = Stream(SECRET, "noise")
    assert np.array_equal(stream.words(1, 0, 300_000)[:5], stream.words(1, 0, 5))
    assert np.array_equal(stream.words(1, 0, 300_000)[299_000:], stream.words(1, 0, 1_000, 299_000))
    assert len(np.unique(stream.words(1, 0, 300_000))) == 300_000


@pytest.mark.parametrize(
    "place", [(-1, 0, 1, 0), (2**63, 0, 1, 0), (0, -1, 1, 0), (0, 2**31, 1, 0), (0, 0, 1, 4), (0, 0, 1, -8), (0, 0, 1, 2**34)]
)  # fmt: skip
def test_places_out_of_reach_are_refused(place: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"place|block"):
        Stream(SECRET, "noise").words(*place)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        Stream(b"short", "noise")


def test_a_device_refuses_places_out_of_reach() -> None:
    for total in (Total(2**31, torch.zeros(3)), Total(0, torch.zeros(3), 2**33)):
        with pytest.raises(ValueError, match="place"):
            Noise(SECRET)._of_device([total], 1.0, 1)


# ---- sampling ------------------------------------------------------------------------------------------------------


def test_each_unit_has_its_own_coin() -> None:
    units, rate, steps = 2000, 0.05, 300
    sampler = PoissonSampler(SECRET, units, rate)
    seen = np.zeros((steps, units), bool)
    for step in range(steps):
        seen[step, sampler.draw(step)] = True
    sizes = seen.sum(1)
    # Binomial sizes: a shuffled or fixed-size batch has no spread at all.
    assert abs(sizes.mean() - units * rate) < 5 * math.sqrt(units * rate * (1 - rate) / steps)
    variance = units * rate * (1 - rate)
    assert abs(sizes.var() / variance - 1) < 5 * math.sqrt(2 / steps)
    # A unit seen at one step is seen at the next one as often as any: nothing like "each once an epoch".
    again = (seen[1:] & seen[:-1]).mean()
    assert abs(again - rate**2) < 5 * rate / math.sqrt(steps * units)


def test_the_ends_of_the_rate() -> None:
    assert len(PoissonSampler(SECRET, 7, 1.0).draw(1)) == 7
    assert len(PoissonSampler(SECRET, 7, 1e-12).draw(1)) == 0
    for rate in (0.0, 1.5):
        with pytest.raises(ValueError, match="rate"):
            PoissonSampler(SECRET, 7, rate)
