"""Norms and clipped sums equal a float64 loop over units: shared parameters, units of several rows, and what is hard to add up."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shuyuan.privacy import Clipper, Units
from shuyuan.privacy.clipping import contributions
from shuyuan.privacy.cost import prefers_dense

from .reference import Tied, check, clipped_sum, next_token, spread, unit_gradients

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("vocabulary", [30, 500], ids=["as an array", "as factors"])
def test_tied_weights_and_a_module_called_twice(vocabulary: int) -> None:
    check(Tied(vocabulary), torch.randint(0, vocabulary, (5, 4)), next_token)
    check(Tied(vocabulary), torch.randint(0, 3, (5, 4)), next_token)  # ids that repeat within a unit


@pytest.mark.parametrize("units", [[0, 0, 1, 1, 2, 2], [0, 1, 0, 2, 2, 2], [2, 1, 0, 1, 1, 0], [0] * 6])
@pytest.mark.parametrize("vocabulary", [30, 500])
def test_units_of_several_rows_are_clipped_jointly(units: list[int], vocabulary: int) -> None:
    check(Tied(vocabulary), torch.randint(0, vocabulary, (6, 4)), next_token, units)
    check(
        nn.Sequential(nn.Conv1d(2, 3, 2), nn.GroupNorm(3, 3), nn.Flatten()), torch.randn(6, 2, 5), units=units
    )


def test_sums_add_up_over_physical_batches() -> None:
    model, rows = Tied(30), torch.randint(0, 30, (8, 4))
    wanted, _ = clipped_sum(unit_gradients(model, next_token, rows, list(range(8))), 0.5)
    clipper = Clipper(model, 0.5)
    for part in rows.split([3, 1, 4]):
        clipper.begin(Units.one_a_row(len(part)))
        clipper.backward(next_token(model, part))
    for name, total in clipper.take().items():
        assert torch.allclose(total.double(), wanted[name], rtol=3e-4, atol=1e-6)
    assert all(not total.any() for total in clipper.take().values())


def test_automatic_clipping_brings_every_unit_to_one_norm() -> None:
    model, rows = nn.Linear(4, 3), torch.randn(5, 4)
    clipper = Clipper(model, "auto")
    clipper.begin(Units.one_a_row(5))
    clipped = clipper.backward(spread(model, rows))
    parts = clipped.norms_U * clipped.factors_U
    assert bool((parts <= 1).all()) and bool((parts > 0.9).all())


@pytest.mark.parametrize("clip", [1e-3, 1.0, "auto"])
def test_no_unit_moves_the_sum_by_more_than_the_clip(clip: Any) -> None:
    """Add one unit: the sum moves by at most the clip, whatever the unit holds, and however float32 rounds the sum."""
    model = nn.Conv1d(4, 30, 2)
    rows = torch.cat([torch.randn(8, 4, 4), 1e4 * torch.ones(1, 4, 4)])

    def total(part: Tensor) -> dict[str, Tensor]:
        clipper = Clipper(model, clip)
        clipper.begin(Units.one_a_row(len(part)))
        clipper.backward(100 * spread(model, part))
        clipper.remove()
        return clipper.take()

    whole, bound = total(rows), 1.0 if clip == "auto" else clip
    for left_out in range(len(rows)):
        others = total(rows[torch.arange(len(rows)) != left_out])
        moved = sum((whole[name] - others[name]).double().square().sum() for name in whole) ** 0.5
        assert 0.9 * bound < moved <= bound


@pytest.mark.parametrize("clipping", ["joint", "per-layer"])
def test_a_unit_that_is_not_finite_becomes_zero_and_is_counted(clipping: Any) -> None:
    for model in (nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)), Tied(500), Tied(30)):
        tokens = isinstance(model, Tied)
        rows = torch.randint(0, 30, (3, 4)) if tokens else torch.randn(3, 4)
        losses = next_token if tokens else spread
        clipper = Clipper(model, 1.0, clipping)
        clipper.begin(Units.one_a_row(2))
        clipper.backward(losses(model, rows[[0, 2]]))
        wanted = clipper.take()
        clipper.begin(Units.one_a_row(3))
        clipped = clipper.backward(losses(model, rows) * torch.tensor([1.0, torch.inf, 1.0]))
        assert clipped.not_finite == 1
        for name, total in clipper.take().items():
            assert torch.allclose(total, wanted[name], rtol=1e-4, atol=1e-6)
        clipper.remove()


@pytest.mark.parametrize("clip", [1.0, "auto"])
@pytest.mark.parametrize("length", [1e2, 1e4, 1e6])
def test_a_unit_whose_positions_nearly_cancel_is_clipped_all_the_same(clip: Any, length: float) -> None:
    """Two long inputs, nearly alike, with opposite gradients: the Gram matrices' terms cancel down to nothing."""
    model = nn.Linear(400, 300, bias=False)
    x = torch.randn(1, 1, 400) * length / 20
    rows = torch.cat([x, x + torch.randn_like(x) * 1e-2], 1)
    direction = torch.randn(300)
    clipper = Clipper(model, clip)
    clipper.begin(Units.one_a_row(1))
    out = model(rows)
    clipper.backward(((out[:, 0] - out[:, 1]) * direction).sum(1))
    assert not prefers_dense(2, 300, 400, "cpu", 4)
    moved = clipper.take()["weight"].double().norm()
    assert moved <= clipper.norm


def test_a_tied_parameter_whose_uses_nearly_cancel_keeps_every_unit() -> None:
    model = Tied(500)
    with torch.no_grad():
        model.embedding.weight.mul_(50)
    for clipping in ("joint", "per-layer"):
        clipper = Clipper(model, 1.0, clipping)  # type: ignore[arg-type]
        clipper.begin(Units.one_a_row(60))
        clipped = clipper.backward(next_token(model, torch.randint(0, 500, (60, 3))))
        assert clipped.not_finite == 0
        assert all(bool(total.isfinite().all()) for total in clipper.take().values())
        clipper.remove()


class Residual(nn.Module):
    """Adds a matrix's output to its input; the sum needs neither for its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(6, 6)
        self.outputs: list[weakref.ref[Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        y = self.matrix(x)
        self.outputs.append(weakref.ref(y))
        return x + y


def test_outputs_that_autograd_does_not_need_are_not_kept() -> None:
    model = nn.Sequential(Residual(), Residual())
    clipper = Clipper(model, 1.0)
    clipper.begin(Units.one_a_row(4))
    losses = spread(model, torch.randn(4, 3, 6))
    assert all(output() is None for block in model for output in block.outputs)
    clipper.backward(losses)


@pytest.mark.parametrize("elements", [1, 500])
def test_gram_matrices_a_few_units_at_a_time(monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    monkeypatch.setattr(contributions, "GRAM_ELEMENTS", elements)
    check(nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 30)), torch.randn(5, 3, 30))


def test_factors_in_half_precision_are_summed_in_float32() -> None:
    """A sum that was rounded to half precision could move further than the clip allows."""
    A_UTI, G_UTO = torch.randn(2, 2, 400).bfloat16(), torch.randn(2, 2, 300).bfloat16()
    assert not prefers_dense(2, 300, 400, "cpu", 2)
    both = contributions.Contributions(nn.Parameter(torch.zeros(300, 400)), 2)
    both.add_outer(A_UTI, G_UTO)
    total, factors_U = torch.zeros(300, 400), torch.tensor([0.3, 0.7])
    both.add_clipped(total, factors_U)
    wanted = torch.einsum("u,uto,uti->oi", factors_U.double(), G_UTO.double(), A_UTI.double())
    assert (total - wanted).norm() < 1e-6 * wanted.norm()
