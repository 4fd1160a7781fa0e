"""The noise of arrays is the noise of tensors: the same draws for the same places, on the same lattice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from shuyuan.privacy.array_noise import ArrayNoise
from shuyuan.privacy.noise import Noise, Total
from shuyuan.privacy.stream import CHUNK, LATTICE

SECRET = bytes(range(32))


@pytest.mark.parametrize("shape", [(3, 1001), (CHUNK + 7,)])
def test_it_is_torchs_noise_but_for_the_last_place(shape: tuple[int, ...]) -> None:
    total = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    ours = ArrayNoise(SECRET).add(total, 0.7, step=5, number=2)
    (theirs,) = (
        noisy.numpy() for noisy in Noise(SECRET).add([Total(2, torch.from_numpy(total))], 0.7, step=5)
    )
    assert ours.shape == theirs.shape and ours.dtype == np.float32
    assert np.abs(ours - theirs).max() <= 2 * 0.7 * LATTICE + np.spacing(np.float32(4))
    assert (ours == theirs).mean() > 0.99


def test_it_is_normal_and_lies_on_the_lattice() -> None:
    noise = ArrayNoise(SECRET)
    zeros = np.zeros(200_001, np.float32)
    drawn = noise.add(zeros, 1.0, step=1, number=0).astype(np.float64)
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    small = np.abs(drawn) < 2**-4  # where float32 holds the lattice exactly
    steps = drawn[small] / LATTICE
    assert small.sum() > 1000 and np.array_equal(steps, np.rint(steps))


def test_every_place_has_its_own_and_a_repeat_the_same() -> None:
    zeros = np.zeros(CHUNK + 7, np.float32)
    first = ArrayNoise(SECRET).add(zeros, 1.0, step=1, number=0)
    assert np.array_equal(first, ArrayNoise(SECRET).add(zeros, 1.0, step=1, number=0))
    others = [ArrayNoise(SECRET).add(zeros, 1.0, step=2, number=0), ArrayNoise(SECRET).add(zeros, 1.0, step=1, number=1),
              ArrayNoise(bytes(32)).add(zeros, 1.0, step=1, number=0)]  # fmt: skip
    assert all((first == other).mean() < 1e-3 for other in others)
    assert len(np.unique(first)) > 0.99 * len(first)


def test_no_deviation_is_no_noise() -> None:
    total = np.ones(5, np.float32)
    assert np.array_equal(ArrayNoise(SECRET).add(total, 0.0, step=1, number=0), total)
