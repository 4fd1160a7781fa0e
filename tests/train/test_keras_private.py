"""A private step in Keras: what the weights move by is the clipped sum and the noise, over what a batch is expected to hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shuyuan.privacy import Mechanism
from shuyuan.privacy.array_noise import ArrayNoise
from shuyuan.train.backend import Batch
from shuyuan.train.keras_private import PrivateKerasBackend

from ..models.recurrent_models import T, V, model
from .parts import settings

CLIP, EXPECTED, RATE = 0.1, 4.0, 0.1  # a unit's gradient is longer than that


def backend(noise: float, micro_batch: int = 6, seed: int = 0) -> PrivateKerasBackend:
    train = settings(
        batch_size=6, micro_batch=micro_batch, optimizer="sgd", weight_decay=0.0, learning_rate=RATE
    )
    mechanism = Mechanism(100, EXPECTED, 10, noise, CLIP, "joint", 1e-5)
    return PrivateKerasBackend(model(lively=False), train, mechanism, bytes([seed]) * 32)


def batch_of(units: list[int], step: int = 1) -> Batch:
    tokens = np.random.default_rng(3).integers(0, V, (len(units), T + 1))
    return Batch(step, tokens[:, :-1].copy(), tokens[:, 1:].copy(), np.array(units, np.int64))


def moved(ours: PrivateKerasBackend, batch: Batch) -> NDArray[np.float64]:
    """By how much one step moved the weights, over the rate and the momentum's first factor, all in a row."""
    before = [weight.numpy().astype(np.float64) for weight in ours._clipper.weights]
    ours.step(batch, RATE)
    after = [weight.numpy().astype(np.float64) for weight in ours._clipper.weights]
    change = np.concatenate([(old - new).ravel() for old, new in zip(before, after, strict=True)])
    return change / RATE / 1.9  # Nesterov: 1 + 0.9 on the first step


def test_a_step_without_units_is_noise_alone_and_of_the_right_size() -> None:
    noise = moved(backend(2.0), batch_of([]))
    assert noise.size > 1000
    assert noise.std() == pytest.approx(2.0 * CLIP / EXPECTED, rel=4 / np.sqrt(2 * noise.size))
    assert abs(noise.mean()) < 4 * 2.0 * CLIP / EXPECTED / np.sqrt(noise.size)
    assert np.isfinite(noise).all() and np.unique(noise).size > 0.99 * noise.size


def test_the_sum_is_divided_by_the_expected_batch_whatever_was_drawn() -> None:
    """Two units and six: each unit's part is at most clip over the expected batch, and parts add up."""
    for units in ([0], [0, 1], [0, 1, 2, 3, 4, 5]):
        change = moved(backend(1e-9), batch_of(units))
        assert np.linalg.norm(change) <= len(units) * CLIP / EXPECTED * (1 + 1e-5)
    alone = np.linalg.norm(moved(backend(1e-9), batch_of([0])))
    assert alone == pytest.approx(CLIP / EXPECTED, rel=1e-3)


def test_rows_of_one_unit_are_clipped_together() -> None:
    together = np.linalg.norm(moved(backend(1e-9), batch_of([0, 0, 0, 0])))
    assert together == pytest.approx(CLIP / EXPECTED, rel=1e-3)


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_physical_batches_change_nothing(micro_batch: int) -> None:
    units = [0, 1, 2, 3, 4, 5]
    whole, parts = (moved(backend(1e-9, size), batch_of(units)) for size in (6, micro_batch))
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-7)


def test_noise_follows_from_secret_and_step_and_is_added_to_the_sum() -> None:
    ours = backend(2.0)
    total = [np.zeros(weight.shape, np.float32) for weight in ours._clipper.weights]
    other = ArrayNoise(bytes(32))
    expected = [other.add(each, 2.0 * CLIP, step=1, number=n) / EXPECTED for n, each in enumerate(total)]
    right = np.concatenate([each.ravel() for each in expected])
    np.testing.assert_allclose(moved(ours, batch_of([])), right, atol=2e-5)
    again = {name: moved(each, batch_of([], step)) for name, each, step in _others()}
    assert np.allclose(again["same"], right, atol=2e-5)
    assert not np.allclose(again["secret"], right, atol=1e-2)
    assert not np.allclose(again["step"], right, atol=1e-2)


def _others() -> list[tuple[str, Any, int]]:
    return [("same", backend(2.0), 1), ("secret", backend(2.0, seed=1), 1), ("step", backend(2.0), 2)]
