"""`make_private` around an ordinary loop: exactly the sum of clipped gradients, noise and steps that the accountant counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import shuyuan
from shuyuan.errors import PrivacyError
from shuyuan.privacy import Noise, PrivateLoop, Total, make_private

from .reference import clipped_sum, unit_gradients

UNITS, WIDTH = 40, 4


def rows_and_labels() -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(UNITS, WIDTH), torch.randint(0, 3, (UNITS,))


def losses(model: nn.Module, rows: Any) -> Tensor:
    x, y = rows
    return F.cross_entropy(model(x), y, reduction="none")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, 3))


def private(model: nn.Module, optimizer: torch.optim.Optimizer | None = None, **changes: Any) -> PrivateLoop:
    settings = {
        "units": UNITS, "expected_batch": 10, "steps": 3, "noise_multiplier": 1.0, "insecure_seed": 1,
    }  # fmt: skip
    return make_private(model, optimizer or torch.optim.SGD(model.parameters(), 1.0), **settings | changes)


def train(loop: PrivateLoop, model: nn.Module, micro_batch: int | None = None) -> list[list[int]]:
    """Runs to the end and returns the records of each step."""
    x, y = rows_and_labels()
    seen = []
    for batch in loop.batches(micro_batch):
        records: list[int] = []
        for rows in batch:
            assert micro_batch is None or len(rows) <= micro_batch
            records += rows.tolist()
            loop.backward(losses(model, (x[rows], y[rows])))
        loop.step()
        seen.append(records)
    return seen


def test_it_is_reached_without_another_import() -> None:
    assert shuyuan.privacy.make_private is make_private


def test_a_step_is_clipped_sum_plus_noise_over_the_expected_batch() -> None:
    model = network()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    x, y = rows_and_labels()
    loop = private(model, steps=1, noise_multiplier=1e-9, clip=0.5)
    (records,) = train(loop, model)
    gradients = unit_gradients(network(), losses, (x[records], y[records]), list(range(len(records))))
    wanted, _ = clipped_sum(gradients, 0.5)
    for name, weight in model.named_parameters():
        # 10, the expected batch, and not the number of rows that happened to be drawn
        assert torch.allclose((before[name] - weight).double(), wanted[name] / 10, rtol=1e-3, atol=1e-5)
    assert len(records) != 10


@pytest.mark.parametrize("expected", [0.5, 2.5, 10.7])
def test_the_normaliser_is_the_expected_batch_as_it_was_given(expected: float) -> None:
    """Not rounded to a whole number, and nothing that is computed from how many units there are."""
    model = nn.Linear(WIDTH, 3)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    seen: list[float] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(float(model.weight.grad.double().std())))
    loop = private(
        model, optimizer, expected_batch=expected, clip=1e-9, noise_multiplier=1e9
    )  # noise of deviation 1
    train(loop, model)
    same = [
        Noise(bytes([*bytes(31), 1])).add([Total(0, torch.zeros(3, WIDTH))], 1.0, step=step)[0]
        for step in (1, 2, 3)
    ]
    assert seen == [pytest.approx(float(noise.double().std()) / expected, rel=1e-3) for noise in same]
    assert loop.mechanism.sampling_rate == expected / UNITS


def test_each_parameter_and_each_step_has_noise_of_its_own() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    seen: list[list[Tensor]] = []
    optimizer.register_step_pre_hook(
        lambda *_: seen.append([each.grad.clone() for each in model.parameters()])
    )
    loop = private(model, optimizer, clip=0.5, noise_multiplier=3.0)
    for batch in loop.batches():
        for rows in batch:
            loop.backward(0 * model(torch.ones(len(rows), WIDTH)).sum(1))
        loop.step()
    noise = Noise(bytes([*bytes(31), 1]))
    for step, gradients in enumerate(seen, 1):
        for number, gradient in enumerate(gradients):
            alone = noise.add([Total(number, torch.zeros_like(gradient))], 3.0 * 0.5, step=step)[0]
            assert torch.equal(gradient, alone / 10)


def test_groups_of_parameters_have_one_norm_together() -> None:
    """A clip for each of the optimizer's groups would let a unit move the sum by the root of their number."""
    model = network()
    before = [weight.detach().clone() for weight in model.parameters()]
    groups = [{"params": [weight], "lr": 1.0} for weight in model.parameters()]
    loop = private(
        model, torch.optim.SGD(groups), units=1, expected_batch=1, steps=1, clip=1e-3, noise_multiplier=1e-6
    )
    train(loop, model)
    moved = sum(
        float((one - other.detach()).square().sum())
        for one, other in zip(before, model.parameters(), strict=True)
    )
    assert math.sqrt(moved) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("clip", [0.5, 2.0, "auto"])
def test_the_noise_has_the_deviation_that_the_accountant_counts(clip: Any) -> None:
    """With no unit in the batch, a step is noise alone: σ · clip over the expected batch. Halved noise is far outside."""
    model = nn.Linear(300, 300)
    before = model.weight.detach().clone()
    loop = private(model, steps=1, noise_multiplier=1.5, expected_batch=1e-9, clip=clip)
    assert train(loop, model) == [[]]
    noise = (before - model.weight.detach()).double() * 1e-9
    deviation = 1.5 * (1.0 if clip == "auto" else clip)
    assert abs(noise.std() / deviation - 1) < 5 / math.sqrt(2 * 90_000)


def test_an_empty_batch_steps_and_counts() -> None:
    loop = private(model := network(), expected_batch=1e-9)
    assert train(loop, model) == [[], [], []]
    assert loop.steps == 3


def test_physical_batches_change_nothing_but_the_memory() -> None:
    whole, parts = network(), network()
    assert train(private(whole), whole) == train(private(parts), parts, micro_batch=3)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.NAdam]
)
def test_any_optimizer(kind: Any) -> None:
    model = network()
    before = [weight.clone() for weight in model.parameters()]
    train(private(model, kind(model.parameters(), lr=0.1)), model)
    assert all(not torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    assert type(model) is nn.Sequential


def test_batches_are_drawn_by_coins_and_differ_in_size() -> None:
    loop = private(model := network(), steps=60)
    sizes = [len(records) for records in train(loop, model)]
    expected, variance = 10, 10 * 0.75
    assert abs(np.mean(sizes) - expected) < 5 * math.sqrt(variance / 60)
    assert abs(np.var(sizes) / variance - 1) < 5 * math.sqrt(2 / 60)  # a shuffled loader has no spread


def test_which_records_a_unit_gives_is_drawn_anew_at_each_step() -> None:
    model = network()
    units = np.arange(UNITS) % 4
    loop = private(model, units=units, expected_batch=4, steps=8, records_per_unit=3)
    seen = train(loop, model)
    assert all(np.bincount(units[records]).tolist() == [3] * 4 for records in seen)
    assert len({record for records in seen for record in records}) > 0.8 * UNITS


def test_the_same_secret_repeats_everything_and_another_nothing() -> None:
    first, again = network(), network()
    seen = train(private(first), first)
    assert train(private(again), again) == seen
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))
    without = [train(private(each, insecure_seed=None), each) for each in (network(), network())]
    assert without[0] != without[1] and seen not in without


def test_epsilon_grows_with_the_steps_made_and_ends_at_what_was_asked() -> None:
    loop = private(model := network(), noise_multiplier=None, epsilon=2.0, steps=4)
    assert loop.epsilon == 0
    train(loop, model)
    assert 1.9 < loop.epsilon <= 2.0


def test_owners_are_units_and_give_so_many_records() -> None:
    owners = [f"patient {record // 4}" for record in range(UNITS)]
    loop = private(model := network(), units=owners, expected_batch=5, records_per_unit=2, steps=5)
    assert loop.mechanism.units == 10 and loop.mechanism.unit == "owner"
    for records in train(loop, model, micro_batch=4):
        _, counts = np.unique([record // 4 for record in records], return_counts=True)
        assert (counts == 2).all()


def test_an_owner_gives_all_records_or_none_whatever_their_order_and_number() -> None:
    owners = np.random.default_rng(0).integers(0, 7, UNITS)
    of = {owner: set(np.flatnonzero(owners == owner)) for owner in owners.tolist()}
    assert len({len(records) for records in of.values()}) > 1
    loop = private(model := network(), units=owners, expected_batch=3, records_per_unit=UNITS, steps=6)
    for records in train(loop, model):
        assert set(records) == set().union(*(of[owner] for owner in owners[records].tolist()))
        assert len(set(records)) == len(records)


def test_an_owner_is_clipped_once_for_all_its_records() -> None:
    model = network()
    before = [weight.detach().clone() for weight in model.parameters()]
    loop = private(
        model,
        units=["one"] * UNITS,
        expected_batch=1,
        records_per_unit=UNITS,
        steps=1,
        clip=1e-3,
        noise_multiplier=1e-9,
    )
    train(loop, model)
    moved = math.sqrt(
        sum(float((a - b.detach()).square().sum()) for a, b in zip(before, model.parameters(), strict=True))
    )
    assert moved == pytest.approx(1e-3, rel=1e-2)


# ---- what it refuses -------------------------------------------------------------------------------------------------


def code(loop_or_error: Any) -> str:
    return str(loop_or_error.value.code)


def test_the_optimizer_alone_steps_nothing() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    private(model, optimizer)
    with pytest.raises(PrivacyError) as caught:
        optimizer.step()
    assert code(caught) == "privacy.foreign-step"


def test_more_steps_than_were_planned() -> None:
    loop = private(model := network(), steps=1)
    train(loop, model)
    with pytest.raises(PrivacyError) as caught:
        loop.step()
    assert code(caught) == "privacy.spent"
    with pytest.raises(PrivacyError) as caught:  # a second epoch would otherwise be passed over in silence
        train(loop, model)
    assert code(caught) == "privacy.spent"


def test_a_batch_without_a_step_and_a_part_without_a_backward() -> None:
    loop = private(network())
    batches = loop.batches()
    next(batches)
    with pytest.raises(PrivacyError) as caught:
        next(batches)
    assert code(caught) == "privacy.no-step"
    loop = private(network())
    for _ in next(loop.batches()):
        break
    with pytest.raises(PrivacyError) as caught:
        loop.step()
    assert code(caught) == "privacy.no-backward"


def test_a_step_of_which_a_part_is_missing_is_none() -> None:
    loop = private(model := network())
    x, y = rows_and_labels()
    for rows in next(loop.batches(micro_batch=4)):
        loop.backward(losses(model, (x[rows], y[rows])))
        break
    with pytest.raises(PrivacyError) as caught:
        loop.step()
    assert code(caught) == "privacy.no-backward"
    parts = iter(next(loop.batches(micro_batch=4)))
    next(parts)
    with pytest.raises(PrivacyError) as caught:
        next(parts)  # the one before has had no backward pass
    assert code(caught) == "privacy.no-backward"


def test_a_parameter_that_only_one_side_has() -> None:
    model = network()
    with pytest.raises(PrivacyError) as caught:
        private(model, torch.optim.SGD(model[0].parameters(), 0.1))
    assert code(caught) == "privacy.not-in-optimizer"
    beside = nn.Parameter(torch.ones(2))
    with pytest.raises(PrivacyError) as caught:
        private(model, torch.optim.SGD([*model.parameters(), beside], 0.1))
    assert code(caught) == "privacy.unseen-parameter"


@pytest.mark.parametrize(
    "changes",
    [
        {"units": 0}, {"expected_batch": 0}, {"expected_batch": UNITS + 1}, {"steps": 0}, {"epsilon": 3.0},
        {"noise_multiplier": None}, {"noise_multiplier": -1.0}, {"delta": 0.0}, {"delta": 1.0}, {"clip": 0.0},
        {"noise_multiplier": None, "epsilon": 0.0}, {"clip": math.inf},
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError) as caught:
        private(network(), **changes)
    assert caught.value.mend


def test_a_micro_batch_that_would_cut_a_unit() -> None:
    loop = private(network(), units=["one"] * UNITS, expected_batch=1, records_per_unit=3)
    with pytest.raises(PrivacyError) as caught:
        next(loop.batches(micro_batch=2))
    assert code(caught) == "privacy.small-micro-batch"


def test_a_batch_can_be_iterated_once() -> None:
    loop = private(network())
    batch = next(loop.batches())
    x, y = rows_and_labels()
    for rows in batch:
        loop.backward(losses(loop._clipper._capture._model, (x[rows], y[rows])))
    with pytest.raises(PrivacyError) as caught:
        next(iter(batch))
    assert code(caught) == "privacy.batch-again"


def test_a_loop_that_was_broken_off_begins_its_step_anew() -> None:
    whole, broken = network(), network()
    first, second = private(whole), private(broken)
    x, y = rows_and_labels()
    for rows in next(second.batches(micro_batch=4)):  # a notebook's cell, stopped before the step
        second.backward(losses(broken, (x[rows], y[rows])))
        break
    train(first, whole), train(second, broken)
    assert all(
        torch.equal(one, other) for one, other in zip(whole.parameters(), broken.parameters(), strict=True)
    )


def test_after_an_optimizer_that_failed_the_noise_is_never_used_again() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    loop = private(model, optimizer)
    x, y = rows_and_labels()
    for rows in next(loop.batches()):
        loop.backward(losses(model, (x[rows], y[rows])))
    step = optimizer.step
    optimizer.step = lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory"))  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        loop.step()
    optimizer.step = step  # type: ignore[method-assign]
    assert loop.steps == 1
    with pytest.raises(PrivacyError) as caught:
        loop.step()
    assert code(caught) == "privacy.no-backward"


def test_a_layer_that_is_unfrozen_later_or_has_an_old_gradient_is_refused() -> None:
    model = network()
    model[0].requires_grad_(False)
    loop = private(model, torch.optim.SGD(model.parameters(), 0.1))
    model[0].requires_grad_(True)
    with pytest.raises(PrivacyError) as caught:
        train(loop, model)
    assert code(caught) == "privacy.other-parameters"
    model = network()
    losses(model, rows_and_labels()).sum().backward()
    model[0].requires_grad_(False)
    with pytest.raises(PrivacyError) as caught:
        private(model, torch.optim.SGD(model.parameters(), 0.1))
    assert code(caught) == "privacy.unseen-parameter"


def test_a_layer_that_is_added_to_the_optimizer_later_is_refused() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loop = private(model, optimizer)
    optimizer.add_param_group({"params": nn.Linear(3, 3).parameters()})
    with pytest.raises(PrivacyError) as caught:
        train(loop, model)
    assert code(caught) == "privacy.unseen-parameter"


@pytest.mark.parametrize("units", [np.int64(UNITS), np.arange(UNITS)[:, None]])
def test_units_as_arrays_of_numpy(units: Any) -> None:
    assert private(network(), units=units).mechanism.units == UNITS


@pytest.mark.parametrize(
    "changes", [{"units": ["a", None] * 20}, {"records_per_unit": 0}, {"delta": 1}, {"clip": 0}]
)
def test_more_that_makes_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError) as caught:
        private(network(), **changes)
    assert caught.value.mend


def test_after_close_model_and_optimizer_are_ordinary_again() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 3), nn.Flatten())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    private(model, optimizer).close()
    losses(model, rows_and_labels()).sum().backward()
    optimizer.step()
    assert model[0].weight.grad is not None
