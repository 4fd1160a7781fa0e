"""The slow and certain way: each unit's gradient in float64, one unit after another, by ordinary autograd."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Losses = Callable[[nn.Module, Any], Tensor]  # (model, rows) -> one loss a row


def unit_gradients(model: nn.Module, losses: Losses, rows: Any, units: list[int]) -> list[dict[str, Tensor]]:
    """For each unit the gradient of the sum of its rows' losses, by parameter name, in float64.

    Args:
        model: is copied to float64; buffers and modes stay.
        losses: computes one loss a row.
        rows: a tensor, or a tuple of tensors, with one entry a row.
        units: the unit of each row.
    """
    model = copy.deepcopy(model).double()
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    gradients = []
    for unit in range(max(units) + 1):
        mine = [row for row, of in enumerate(units) if of == unit]
        model.zero_grad()
        for row in mine:
            losses(model, _row(rows, row)).sum().backward()
        gradients.append(
            {
                name: torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
                for name, weight in weights.items()
            }
        )
    return gradients


def clipped_sum(gradients: list[dict[str, Tensor]], clip: float) -> tuple[dict[str, Tensor], Tensor]:
    """The sum of gradients, each scaled to at most `clip` over all parameters, and their norms."""
    norms = torch.stack(
        [
            torch.sqrt(sum((part.square().sum() for part in each.values()), torch.zeros(()).double()))
            for each in gradients
        ]
    )
    factors = (clip / norms).clamp(max=1)
    return {
        name: sum(
            (each[name] * factor for each, factor in zip(gradients, factors, strict=True)), torch.zeros(())
        )
        for name in gradients[0]
    }, norms


def _row(rows: Any, row: int) -> Any:
    def one(x: Tensor) -> Tensor:
        x = x[row : row + 1]
        return x.double() if x.is_floating_point() else x

    return tuple(map(one, rows)) if isinstance(rows, tuple) else one(rows)
