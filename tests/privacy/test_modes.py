"""Clipping by layer, activation checkpointing, half precision and dropout change how parts are found, and not what is clipped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shuyuan.errors import PrivacyError
from shuyuan.privacy import Clipper, Units
from shuyuan.privacy.clipping import contributions

from .reference import Tied, clipped_sum, next_token, spread, unit_gradients

pytestmark = pytest.mark.usefixtures("seeded")


def per_layer_sum(gradients: list[dict[str, Tensor]], clip: float) -> dict[str, Tensor]:
    share = clip / len(gradients[0]) ** 0.5
    return {
        name: sum(
            (each[name] * min(1.0, share / float(each[name].norm())) for each in gradients), torch.zeros(())
        )
        for name in gradients[0]
    }


@pytest.mark.parametrize("vocabulary", [30, 500])
def test_per_layer_clips_each_parameter_to_its_share(vocabulary: int) -> None:
    model, rows = Tied(vocabulary), torch.randint(0, vocabulary, (5, 4))
    wanted = per_layer_sum(unit_gradients(model, next_token, rows, list(range(5))), 0.5)
    clipper = Clipper(model, 0.5, "per-layer")
    clipper.begin(Units.one_a_row(5))
    clipper.backward(next_token(model, rows))
    for name, total in clipper.take().items():
        assert torch.allclose(total.double(), wanted[name], rtol=1e-3, atol=1e-6), name


def test_per_layer_forgets_a_layer_before_the_next_one() -> None:
    """While a wide chain of layers goes backward, no two of their gradients are held at once."""
    model = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(6)))
    clipper = Clipper(model, 1.0, "per-layer")
    held: list[int] = []
    add = contributions.Contributions.add_dense

    def counting(self: contributions.Contributions, gradient: Tensor) -> None:
        add(self, gradient)
        held.append(len(clipper._capture._collected or {}))

    contributions.Contributions.add_dense = counting  # type: ignore[method-assign]
    try:
        clipper.begin(Units.one_a_row(4))
        clipper.backward(spread(model, torch.randn(4, 40, 64)))
    finally:
        contributions.Contributions.add_dense = add  # type: ignore[method-assign]
    assert max(held) <= 2  # weight and bias of one layer


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 6)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.3)) for _ in range(3)
        )
        self.head = nn.Linear(6, 30)
        self.reentrant = reentrant
        self.on = True

    def forward(self, ids: Tensor) -> Tensor:
        from torch.utils.checkpoint import checkpoint

        x = self.table(ids)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant) if self.on else block(x)
        return self.head(x)


@pytest.mark.parametrize("clipping", ["joint", "per-layer"])
def test_activation_checkpointing_changes_nothing(clipping: Any) -> None:
    model, rows = Checkpointed(reentrant=False), torch.randint(0, 30, (4, 5))
    sums = []
    for model.on in (True, False):
        torch.manual_seed(5)  # the same dropout
        clipper = Clipper(model, 0.3, clipping)
        clipper.begin(Units.one_a_row(4))
        clipper.backward(next_token(model, rows))
        sums.append(clipper.take())
        clipper.remove()
    for name in sums[0]:
        assert torch.allclose(sums[0][name], sums[1][name], rtol=1e-5, atol=1e-7), name


def test_what_is_told_twice_is_not_clipped_twice() -> None:
    """Of one unit alone nobody looks whether units mix; what the other kind of checkpointing does is seen all the same."""
    model = Checkpointed(reentrant=True)
    clipper = Clipper(model, 0.3, "per-layer")
    clipper.begin(Units.one_a_row(1))
    with pytest.raises(PrivacyError) as caught:
        clipper.backward(next_token(model, torch.randint(0, 30, (1, 5))))
    assert caught.value.code == "privacy.told-again"


def test_dropout_inside_a_module_without_a_rule() -> None:
    """Each row keeps its own mask from the forward pass: the sum of parts is what autograd gives for the whole."""
    model = nn.Sequential(nn.LSTM(5, 6, num_layers=2, dropout=0.5, batch_first=True))
    clipper = Clipper(model, 1e9)
    clipper.begin(Units.one_a_row(4))
    out, _ = model(torch.randn(4, 3, 5))
    clipper.backward(out.flatten(1).sum(1))
    assert all(bool(total.isfinite().all()) and bool(total.any()) for total in clipper.take().values())


@pytest.mark.parametrize("vocabulary", [30, 500])
def test_bf16_autocast_keeps_norms_factors_and_sums_in_float32(vocabulary: int) -> None:
    model, rows = Tied(vocabulary, 32), torch.randint(0, vocabulary, (6, 8))
    clipper = Clipper(model, 0.5)
    clipper.begin(Units.one_a_row(6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = next_token(model, rows)
    clipped = clipper.backward(losses.float())
    assert {clipped.norms_U.dtype, clipped.factors_U.dtype} <= {torch.float32, torch.float64}
    gradients = unit_gradients(model, next_token, rows, list(range(6)))
    wanted, norms = clipped_sum(gradients, 0.5)
    assert torch.allclose(clipped.norms_U.double(), norms, rtol=0.05)
    for name, total in clipper.take().items():
        assert total.dtype == torch.float32
        assert (total.double() - wanted[name]).norm() <= 0.05 * wanted[name].norm() + 0.01


@pytest.mark.parametrize("vocabulary", [30, 500])
def test_in_bf16_no_unit_moves_the_sum_by_more_than_the_clip(vocabulary: int) -> None:
    """What is clipped is what is summed: the rounding of half precision falls on both alike."""
    model, rows = Tied(vocabulary, 32), torch.randint(0, vocabulary, (9, 8))
    sums = []
    for part in (rows, rows[:-1]):
        clipper = Clipper(model, 0.01)
        clipper.begin(Units.one_a_row(len(part)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = next_token(model, part)
        clipper.backward(losses.float())
        sums.append(clipper.take())
        clipper.remove()
    moved = sum(
        ((sums[0][name] - sums[1][name]).double().square().sum() for name in sums[0]), torch.zeros(())
    )
    assert float(moved) ** 0.5 <= 0.01


def test_backward_inside_autocast_is_as_exact_as_outside() -> None:
    model, rows = Tied(500, 32), torch.randint(0, 500, (6, 8))
    found = []
    for inside in (True, False):
        clipper = Clipper(model, 0.5)
        clipper.begin(Units.one_a_row(6))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = next_token(model, rows).float()
            if inside:
                clipper.backward(losses)
        if not inside:
            clipper.backward(losses)
        found.append(clipper.take())
        clipper.remove()
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name]), name
