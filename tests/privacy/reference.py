"""The slow and certain way: each unit's gradient in float64, one unit after another, by ordinary autograd; and what is compared with it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shuyuan.privacy import Clipper, Units
from shuyuan.privacy.mechanism import ROUNDING

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


def spread(model: nn.Module, x: Tensor) -> Tensor:
    """A loss for each row in which every output counts differently."""
    out = model(x).flatten(1)
    return (out * torch.linspace(0.3, 1.7, out.shape[1], dtype=out.dtype)).sin().sum(1)


def next_token(model: nn.Module, tokens: Tensor) -> Tensor:
    return F.cross_entropy(model(tokens).transpose(1, 2), tokens.roll(-1, 1), reduction="none").sum(1)


def check(
    model: nn.Module,
    rows: Any,
    losses: Callable[[nn.Module, Any], Tensor] = spread,
    units: list[int] | None = None,
    clip: float | None = None,
) -> None:
    """Compares one physical batch with the reference; by default the clip is such that it cuts some units and not others."""
    count = len(rows[0] if isinstance(rows, tuple) else rows)
    units = units or list(range(count))
    gradients = unit_gradients(model, losses, rows, units)
    _, norms = clipped_sum(gradients, 1.0)
    clip = clip or float(norms.median() * 1.01)
    wanted, norms = clipped_sum(gradients, clip)
    clipper = Clipper(model, clip)
    try:
        clipper.begin(Units(torch.tensor(units)))
        clipped = clipper.backward(losses(model, rows))
        found = clipper.take()
    finally:
        clipper.remove()
    assert torch.allclose(clipped.norms_U.double(), norms, rtol=2e-5, atol=1e-9)
    whole = torch.sqrt(sum((part.square().sum() for part in wanted.values()), torch.zeros(())))
    for name, total in found.items():
        difference = (total.double() - wanted[name]).norm()
        # Each clipped part may be shorter by a share of ROUNDING, and units may cancel in the sum.
        parts = sum(
            min(1.0, clip / float(norm)) * each[name].norm()
            for each, norm in zip(gradients, norms, strict=True)
        )
        assert difference <= 1.1 * ROUNDING * parts + 2e-6 * whole, name
    assert all(weight.grad is None for weight in model.parameters())


class Tied(nn.Module):
    """Embedding and head are one parameter, and one module is called twice."""

    def __init__(self, vocabulary: int, width: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.middle = nn.Linear(width, width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.middle(torch.tanh(self.middle(self.embedding(ids))))))
