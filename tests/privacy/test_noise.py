"""Noise: Gaussian at exactly the deviation asked, from the secret alone, on a lattice; sampling: a coin for each unit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shuyuan.privacy.noise import CHUNK, LATTICE, Noise, gaussians
from shuyuan.privacy.sampling import PoissonSampler
from shuyuan.privacy.stream import Stream

SECRET, OTHER = bytes(range(32)), bytes(32)
MANY = 400_001  # odd, and more than one chunk


def drawn(step: int = 1, number: int = 0, secret: bytes = SECRET, count: int = MANY) -> torch.Tensor:
    return Noise(secret).add(torch.zeros(count), 3.0, step=step, number=number)


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
    flat = Noise(SECRET).add(torch.zeros(12), 1.0, step=1, number=0)
    assert torch.equal(Noise(SECRET).add(torch.zeros(3, 4), 1.0, step=1, number=0), flat.view(3, 4))


@given(st.integers(0, MANY), st.integers(0, MANY))
@example(CHUNK - 1, CHUNK + 1)
@example(CHUNK, MANY)
@example(5, 5)
@settings(max_examples=20, deadline=None)
def test_who_has_some_elements_draws_what_they_get_in_the_whole(one: int, other: int) -> None:
    first, last = sorted((one, other))
    total = torch.arange(MANY) / MANY
    whole = Noise(SECRET).add(total, 3.0, step=1, number=2)
    part = Noise(SECRET).add(total[first:last], 3.0, step=1, number=2, first=first, whole=MANY)
    assert torch.equal(part, whole[first:last])


@pytest.mark.parametrize("deviation", [1e-3, 1.0, 37.5])
def test_every_outcome_lies_on_the_lattice(deviation: float) -> None:
    total = torch.randn(1000, dtype=torch.float64) * deviation
    noisy = Noise(SECRET).add(total, deviation, step=1, number=0)

    def off_the_lattice(x: torch.Tensor) -> float:
        places = x / (deviation * LATTICE)
        return float((places - places.round()).abs().max())

    assert off_the_lattice(noisy) < 1e-6 < off_the_lattice(total)


def test_the_sum_is_kept_up_to_half_a_lattice_step() -> None:
    total = torch.randn(1000, dtype=torch.float64)
    none = Noise(SECRET).add(torch.zeros(1000, dtype=torch.float64), 2.0, step=1, number=0)
    moved = Noise(SECRET).add(total, 2.0, step=1, number=0) - none - total
    assert moved.abs().max() <= 2.0 * LATTICE / 2 * (1 + 1e-6)


def test_without_noise_the_sum_stays() -> None:
    total = torch.randn(5)
    assert torch.equal(Noise(SECRET).add(total, 0.0, step=1, number=0), total)


def test_the_extreme_words_give_finite_numbers() -> None:
    ends = np.array([0, 2**64 - 1, 0, 2**64 - 1, 0, 2**64 - 1], np.uint64)
    assert bool(gaussians(ends).isfinite().all())
    assert gaussians(np.array([0, 0, 0], np.uint64))[0] == pytest.approx(math.sqrt(2 * 128 * math.log(2)))


def test_far_from_zero_draws_lie_closer_than_the_lattice() -> None:
    """With 53 bits, neighbouring radii near six deviations would lie further apart than the lattice's steps."""
    high, low = 2**36, np.arange(1000, dtype=np.uint64) * np.uint64(2**54)  # about 1e-8 of (0, 1]
    words = np.concatenate([np.full(1000, high, np.uint64), low, np.zeros(1000, np.uint64)])
    radii = gaussians(words)[:1000]
    assert radii[0] > 6
    steps = (radii[:-1] - radii[1:]).abs()
    assert steps.max() < LATTICE


def test_the_stream_is_aes_256_in_counter_mode() -> None:
    stream = Stream(SECRET, "noise")
    words = stream.words(step=3, number=2, count=4)
    place = (3).to_bytes(6, "big") + (2).to_bytes(4, "big") + bytes(6)
    again = Cipher(stream._cipher, modes.CTR(place)).encryptor().update(bytes(32))
    assert words.tobytes() == again
    assert isinstance(stream._cipher, algorithms.AES) and stream._cipher.key_size == 256
    assert not np.array_equal(words, Stream(SECRET, "sampling").words(3, 2, 4))


def test_long_streams_go_on_where_short_ones_end() -> None:
    stream = Stream(SECRET, "noise")
    assert np.array_equal(stream.words(1, 0, 300_000)[:5], stream.words(1, 0, 5))
    assert np.array_equal(stream.words(1, 0, 300_000)[299_000:], stream.words(1, 0, 1_000, 299_000))
    assert len(np.unique(stream.words(1, 0, 300_000))) == 300_000


def test_places_out_of_reach_are_refused() -> None:
    for step, number, first in ((-1, 0, 0), (2**48, 0, 0), (0, 2**32, 0), (0, 0, 1)):
        with pytest.raises(ValueError, match="place"):
            Stream(SECRET, "noise").words(step, number, 1, first)
    with pytest.raises(ValueError, match="bytes"):
        Stream(b"short", "noise")


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
