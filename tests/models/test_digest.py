"""A digest tells any two sets of weights apart, and depends on nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from shuyuan.models.digest import weights_digest


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2).bfloat16())


def one_bit(model: nn.Module) -> None:
    model[0].weight.data.view(torch.int32)[2, 1] ^= 1


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "one bit": one_bit,
    "the sign of a zero": lambda model: model[1].bias.data.mul_(-1),
    "a buffer": lambda model: model[1].num_batches_tracked.add_(1),
    "a type": lambda model: model[2].float(),
    "a shape": lambda model: setattr(model[0].weight, "data", model[0].weight.data.reshape(3, 4)),
    "a name": lambda model: model.add_module("3", model._modules.pop("2")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_shows(change: str) -> None:
    model = network()
    before = weights_digest(model)
    assert weights_digest(network()) == before
    CHANGES[change](model)
    assert weights_digest(model) != before


def test_how_it_lies_in_memory_and_what_is_trained_do_not() -> None:
    model = network()
    before = weights_digest(model)
    with torch.no_grad():
        model[0].weight.data = model[0].weight.data.T.contiguous().T
    model.requires_grad_(False).eval()
    assert weights_digest(copy.deepcopy(model)) == before
