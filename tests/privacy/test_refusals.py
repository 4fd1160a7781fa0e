"""What no path can handle is refused by name: never frozen, never skipped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shuyuan.errors import PrivacyError
from shuyuan.privacy import Clipper, Units


def one_step(model: nn.Module, x: Tensor, losses: Tensor | None = None) -> None:
    clipper = Clipper(model, 1.0)
    clipper.begin(Units.one_a_row(len(x)))
    clipper.backward(model(x).flatten(1).square().sum(1) if losses is None else losses)


def refused(code: str, model: nn.Module, x: Tensor) -> PrivacyError:
    with pytest.raises(PrivacyError) as caught:
        one_step(model, x)
    assert caught.value.code == code and caught.value.mend
    return caught.value


def test_batch_norm() -> None:
    error = refused(
        "privacy.mixes-units", nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), torch.randn(3, 4)
    )
    assert error.where == "1" and "GroupNorm" in error.mend
    one_step(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False).eval()), torch.randn(3, 4))


def test_instance_norm_with_running_averages() -> None:
    refused(
        "privacy.mixes-units",
        nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
        torch.randn(3, 4, 5),
    )


class Functional(nn.Module):
    """Uses the embedding's weight as the head, in a function: no hook sees that use."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return F.linear(self.embedding(ids), self.embedding.weight)


def test_a_weight_used_outside_of_its_module() -> None:
    assert (
        refused("privacy.unseen-use", Functional(), torch.randint(0, 9, (3, 4))).where == "embedding.weight"
    )


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y - y.mean(0)


def test_a_model_that_mixes_rows() -> None:
    assert refused("privacy.mixes-units", Mixing(), torch.randn(3, 4)).where == "inner"


class TwoWays(nn.Module):
    """As routed or conditional models: one way through is clean, the other mixes."""

    def __init__(self) -> None:
        super().__init__()
        self.clean, self.mixing = nn.Linear(4, 4), Mixing()

    def forward(self, x: Tensor, way: str) -> Tensor:
        result: Tensor = getattr(self, way)(x)
        return result


def test_each_way_through_a_model_is_looked_at() -> None:
    clipper, x = Clipper(model := TwoWays(), 1.0), torch.randn(3, 4)
    for way in ("clean", "clean", "mixing"):
        clipper.begin(Units.one_a_row(3))
        losses = model(x, way).square().sum(1)
        if way == "clean":
            clipper.backward(losses)
            continue
        with pytest.raises(PrivacyError, match="mixes-units"):
            clipper.backward(losses)


def test_a_loss_that_mixes_rows() -> None:
    model, x = nn.Linear(4, 4), torch.randn(3, 4)
    clipper = Clipper(model, 1.0)
    clipper.begin(Units.one_a_row(3))
    y = model(x)
    with pytest.raises(PrivacyError, match="depends on"):
        clipper.backward(F.cross_entropy(y @ y.T, torch.arange(3), reduction="none"))


def test_a_loss_that_balances_experts_over_the_batch() -> None:
    """A mixture of experts is often kept busy evenly: by a loss on how all rows together were divided."""
    router, x = nn.Linear(4, 3), torch.randn(6, 4)
    clipper = Clipper(router, 1.0)
    clipper.begin(Units.one_a_row(6))
    shares = router(x).softmax(1)
    with pytest.raises(PrivacyError, match="depends on"):
        clipper.backward(shares[:, 0].log() + 0.01 * 3 * shares.mean(0).square().sum())


@pytest.mark.parametrize("losses", [lambda y: y.square().mean(), lambda y: y.square().flatten()])
def test_one_loss_for_the_whole_batch_and_one_for_each_position(losses: Any) -> None:
    model, x = nn.Linear(4, 4), torch.randn(3, 4)
    clipper = Clipper(model, 1.0)
    clipper.begin(Units.one_a_row(3))
    with pytest.raises(PrivacyError) as caught:
        clipper.backward(losses(model(x)))
    assert caught.value.code == "privacy.one-loss"


class Positions(nn.Module):
    """Looks positions up once for all rows, as GPT-2 does: (1, T), or (T,) as many others do."""

    def __init__(self, batched: bool) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(9, 4), nn.Embedding(8, 4)
        self.batched = batched

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1])
        return self.words(ids) * self.places(places[None] if self.batched else places)


def test_positions_without_rows_are_refused_also_when_there_are_as_many_as_rows() -> None:
    assert refused("privacy.no-rows", Positions(batched=False), torch.randint(0, 9, (3, 4))).where == "places"
    refused("privacy.mixes-units", Positions(batched=False), torch.randint(0, 9, (4, 4)))


def test_positions_with_one_row_for_all_are_expanded() -> None:
    from .reference import check

    for size in ((3, 4), (4, 4)):
        check(Positions(batched=True), torch.randint(0, 9, size))


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(0, 1)).transpose(0, 1)


def test_time_before_rows() -> None:
    refused("privacy.no-rows", TimeFirst(), torch.randn(3, 5, 4))
    refused("privacy.mixes-units", TimeFirst(), torch.randn(5, 5, 4))


class Shared(nn.Module):
    """A parameter that meets no row: nothing that the module is given has rows."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared, self.inner = Shared(), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.shared(torch.ones(4))


def test_a_module_that_sees_no_rows() -> None:
    assert refused("privacy.no-rows", Outer(), torch.randn(3, 5)[:, :4]).where == "shared"


def test_nothing_to_train() -> None:
    refused("privacy.nothing-to-train", nn.Linear(4, 4).requires_grad_(False), torch.randn(3, 4))


def test_after_a_failed_forward_pass_the_parameters_are_back() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    clipper = Clipper(model, 1.0)
    clipper.begin(Units.one_a_row(3))
    with pytest.raises(RuntimeError):
        model(torch.randn(3, 5))
    assert all(isinstance(weight, nn.Parameter) for weight in (model[0].weight, model[0].bias))
    assert len(list(model.parameters())) == 4


def test_a_norm_that_is_set_to_training_later() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4, affine=False).eval(), nn.Linear(4, 4))
    clipper = Clipper(model, 1.0)
    model.train()
    with pytest.raises(PrivacyError) as caught:
        clipper.begin(Units.one_a_row(3))
    assert caught.value.code == "privacy.mixes-units"


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return self.inner(x)


def test_a_buffer_that_keeps_what_it_sees() -> None:
    assert refused("privacy.changed-buffer", Remembering(), torch.randn(3, 4)).where == "mean"


class MixingLater(nn.Module):
    """Leaves the first row alone and mixes the others."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return torch.cat([y[:1], y[1:] - y[1:].mean(0)])


def test_mixing_that_spares_the_first_row() -> None:
    refused("privacy.mixes-units", MixingLater(), torch.randn(5, 4))


def test_a_contrast_over_a_module_without_a_rule() -> None:
    model, x = nn.LSTM(4, 3, batch_first=True), torch.randn(4, 2, 4)
    clipper = Clipper(model, 1.0)
    clipper.begin(Units.one_a_row(4))
    y = model(x)[0][:, -1]
    with pytest.raises(PrivacyError, match="depends on"):
        clipper.backward(F.cross_entropy(y @ y.T, torch.arange(4), reduction="none"))
