"""clip = "auto": every unit's gradient is brought to norm 1, less a little, whatever it was; a zero stays zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shuyuan.privacy import Clipper, Units, make_private
from shuyuan.privacy.mechanism import AUTO_STABILITY, ROUNDING

from .reference import Tied, next_token, spread, unit_gradients

Gradients = list[dict[str, Tensor]]


def norm(parts: Any) -> Tensor:
    return torch.sqrt(sum((part.double().square().sum() for part in parts), torch.zeros(())))


def automatic(gradients: Gradients, clipping: str) -> dict[str, Tensor]:
    """The sum in float64, one unit after another: g / (|g| + γ), over all parameters or for each with its share."""
    share = len(gradients[0]) ** -0.5
    total = {name: torch.zeros_like(part) for name, part in gradients[0].items()}
    for each in gradients:
        whole = norm(each.values())
        for name, part in each.items():
            most, length = (1.0, whole) if clipping == "joint" else (share, norm([part]))
            total[name] += part * most * (1 - ROUNDING) / (length + AUTO_STABILITY)
    return total


@pytest.mark.parametrize("clipping", ["joint", "per-layer"])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_it_is_the_float64_loop(clipping: Any, size: float) -> None:
    torch.manual_seed(0)
    small = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    for model, rows, losses in (
        (small, torch.randn(6, 4), spread), (Tied(500), torch.randint(0, 500, (6, 4)), next_token),
    ):  # fmt: skip
        units = [0, 0, 1, 2, 3, 3]

        def scaled(model: nn.Module, rows: Any, losses: Any = losses) -> Tensor:
            return size * losses(model, rows)

        wanted = automatic(unit_gradients(model, scaled, rows, units), clipping)
        clipper = Clipper(model, "auto", clipping)
        clipper.begin(Units(torch.tensor(units)))
        clipper.backward(scaled(model, rows))
        for name, total in clipper.take().items():
            assert torch.allclose(total.double(), wanted[name], rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("clipping", ["joint", "per-layer"])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-3, 1.0, 1e6])
def test_one_unit_moves_the_sum_by_less_than_one_and_nothing_by_nothing(clipping: Any, size: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    clipper = Clipper(model, "auto", clipping)
    clipper.begin(Units.one_a_row(1))
    clipper.backward(size * spread(model, torch.randn(1, 4)))
    moved = norm(clipper.take().values())
    assert moved < 1 and bool(moved.isfinite())
    assert (size < 1 or moved > 0.95) and (size > 0 or moved == 0)


@pytest.mark.parametrize("clipping", ["joint", "per-layer"])
def test_in_a_loop_its_clip_is_one(clipping: Any) -> None:
    """All that a step adds is at most one for each unit, and the noise is σ times one."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    before = [weight.detach().clone() for weight in model.parameters()]
    loop = make_private(
        model, torch.optim.SGD(model.parameters(), 1.0), units=1, expected_batch=1, steps=1, noise_multiplier=1e-6,
        clip="auto", clipping=clipping,
    )  # fmt: skip
    for batch in loop.batches():
        for rows in batch:
            loop.backward(1e3 * spread(model, torch.randn(len(rows), 4)))
        loop.step()
    moved = norm(one - other.detach() for one, other in zip(before, model.parameters(), strict=True))
    assert 0.98 < moved < 1
