"""Pruning and rounding by inputs: the methods' laws on matrices whose inputs are alike, as those of a network are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from shuyuan.compress.prune import largest
from shuyuan.compress.solve import settled, spread, wanda
from shuyuan.models.packed import grid_of, pack, unpack

SEEDS = range(4)


def case(seed: int, R: int = 24, C: int = 150, N: int = 600) -> tuple[Tensor, Tensor]:
    """A matrix, and the moments of inputs of which some are loud and many alike."""
    generator = torch.Generator().manual_seed(seed)
    x_NC = torch.randn(N, 40, generator=generator) @ torch.randn(40, C, generator=generator)
    x_NC = (x_NC + torch.randn(N, C, generator=generator)) * torch.rand(C, generator=generator) ** 2
    return torch.randn(R, C, generator=generator) * 0.1, x_NC.T @ x_NC


def error(changed: Tensor, weight_RC: Tensor, moments_CC: Tensor) -> float:
    """The squared error of the outputs."""
    d = (changed - weight_RC).double()
    return float(((d @ moments_CC.double()) * d).sum())


def nearest(weight_RC: Tensor) -> Tensor:
    kind, arrays = pack(weight_RC.numpy(), 4)
    return torch.from_numpy(unpack("w", kind, arrays, ""))


@pytest.mark.parametrize("seed", SEEDS)
def test_gptq_changes_outputs_less_than_the_nearest_codes(seed: int) -> None:
    weight, moments = case(seed)
    found = settled(weight, moments, grid=spread(grid_of(weight.numpy()), 150))
    assert found.mask_RC is None
    assert error(found.weight_RC, weight, moments) < 0.7 * error(nearest(weight), weight, moments)


@pytest.mark.parametrize("seed", SEEDS)
def test_sparsegpt_is_better_than_wanda_and_wanda_than_magnitude(seed: int) -> None:
    weight, moments = case(seed)
    by_size = torch.from_numpy(largest(weight.numpy(), 0.5))
    errors = [
        error(found, weight, moments)
        for found in (
            settled(weight, moments, share=0.5).weight_RC,
            weight * wanda(weight, moments, 0.5),
            weight * by_size,
        )
    ]
    assert errors[0] < 0.8 * errors[1] < 0.64 * errors[2]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_goes_and_what_goes_is_zero(share: float) -> None:
    weight, moments = case(1, C=256)
    found = settled(weight, moments, share=share)
    assert found.mask_RC is not None
    assert (~found.mask_RC).float().mean() == pytest.approx(share, abs=0.01)
    assert (found.weight_RC[~found.mask_RC] == 0).all()
    assert int((~wanda(weight, moments, share)).sum()) == round(share * weight.numel())


def test_wanda_is_magnitude_where_all_inputs_are_as_loud() -> None:
    weight, _ = case(1)
    by_size = torch.from_numpy(largest(weight.numpy(), 0.3))
    assert torch.equal(wanda(weight, torch.eye(150) * 3, 0.3), by_size)


def test_with_inputs_that_have_nothing_to_do_with_each_other_the_nearest_is_best() -> None:
    weight, _ = case(0)
    found = settled(weight, torch.eye(150) * 3, grid=spread(grid_of(weight.numpy()), 150))
    torch.testing.assert_close(found.weight_RC, nearest(weight))


def test_rounded_weights_lie_on_the_grid_and_are_stored_as_they_are() -> None:
    weight, moments = case(2)
    mask = wanda(weight, moments, 0.3)
    grid = grid_of((weight * mask).numpy())
    found = settled(weight, moments, grid=spread(grid, 150), mask_RC=mask)
    assert (found.weight_RC[~mask] == 0).all()
    scale, zero = spread(grid, 150)
    codes = found.weight_RC / scale + zero
    assert (codes - codes.round()).abs().max() < 1e-4 and codes.min() >= 0 and codes.max() <= 15
    kind, arrays = pack(found.weight_RC.numpy(), 4, mask.numpy(), grid)
    np.testing.assert_array_equal(unpack("w", kind, arrays, ""), found.weight_RC.numpy())


@pytest.mark.parametrize("dead", [0, 3, 150])
def test_inputs_that_are_always_zero_break_nothing(dead: int) -> None:
    weight, moments = case(3)
    moments[:dead], moments[:, :dead] = 0, 0
    for found in (
        settled(weight, moments, share=0.5),
        settled(weight, moments, grid=spread(grid_of(weight.numpy()), 150)),
    ):
        assert found.weight_RC.isfinite().all()


def test_one_record_is_enough_to_give_finite_weights() -> None:
    weight, _ = case(0)
    x_C = torch.randn(150)
    assert settled(weight, torch.outer(x_C, x_C), share=0.5).weight_RC.isfinite().all()
