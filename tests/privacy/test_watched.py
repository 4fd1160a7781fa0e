"""A watched model is the one that its owner made: hooks, copies, other forward passes and compiling change no gradient."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shuyuan.privacy import Clipper, Units, make_private
from shuyuan.privacy.clipping.contributions import Contributions

from .reference import check, spread


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Both(nn.Module):
    """One module with a rule, one without, one that tells its rows apart by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(4, 4, batch_first=True)
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.cell(x)[0])


def times_hundred(_: nn.Module, __: Any, output: Any) -> Any:
    return 100 * output if isinstance(output, Tensor) else (100 * output[0], output[1])


@pytest.mark.parametrize("where", ["inner", "cell"])
@pytest.mark.parametrize("prepend", [True, False])
def test_a_hook_that_changes_the_output_is_part_of_the_function(where: str, prepend: bool) -> None:
    """The gradient that reaches the module is a hundred times that which reaches the hook: the norm must be too."""
    model = Both()
    model.get_submodule(where).register_forward_hook(times_hundred, prepend=prepend)
    check(model, torch.randn(4, 3, 4))
    model = Both()
    model.get_submodule(where).register_forward_pre_hook(lambda _, given: (3 * given[0],), prepend=prepend)
    check(model, torch.randn(4, 3, 4))


def test_a_hook_that_comes_later_is_part_of_the_function_too() -> None:
    model, x = Both(), torch.randn(4, 3, 4)
    hooked = copy.deepcopy(model)
    wanted = Clipper(hooked, 1.0)
    found = Clipper(model, 1.0)
    hooked.inner.register_forward_hook(times_hundred)
    model.inner.register_forward_hook(times_hundred, prepend=True)
    norms = []
    for each, clipper in ((hooked, wanted), (model, found)):
        clipper.begin(Units.one_a_row(4))
        norms.append(clipper.backward(spread(each, x)).norms_U)
    assert torch.allclose(*norms, rtol=1e-5) and norms[0].min() > 10


def test_a_module_with_another_forward_pass_goes_the_general_way() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    first, plain = model[0], model[0].forward
    first.forward = lambda x: plain(x) * (1 + plain(x))  # type: ignore[method-assign]
    wanted = nn.Linear(4, 4)
    wanted.load_state_dict(first.state_dict())
    x = torch.randn(5, 4)
    clipper = Clipper(model, 1e9)
    clipper.begin(Units.one_a_row(5))
    clipper.backward(spread(model, x))
    found = clipper.take()
    clipper.remove()
    out = (wanted(x) * (1 + wanted(x))).tanh() * torch.linspace(0.3, 1.7, 4)
    grads = torch.autograd.grad(out.sin().sum(), list(wanted.parameters()))
    for grad, total in zip(grads, found.values(), strict=True):
        assert torch.allclose(grad, total, rtol=1e-3, atol=1e-5)
    assert torch.equal(first(x), plain(x) * (1 + plain(x)))  # and is put back


class Louder(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * super().forward(x)


class Named(nn.Linear):
    """Another name, and the same computation."""


@pytest.mark.parametrize("kind", [Louder, Named])
def test_a_subclass_is_what_its_forward_pass_is(kind: Any) -> None:
    check(nn.Sequential(nn.Linear(4, 4), kind(4, 3)), torch.randn(5, 4))


# ---- copies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twice", [False, True])
def test_a_copy_of_a_watched_model_is_an_ordinary_model_with_its_own_weights(twice: bool) -> None:
    model, x = Both(), torch.randn(4, 3, 4)
    loop = make_private(
        model, torch.optim.SGD(model.parameters(), 1.0), units=4, expected_batch=4, steps=1, noise_multiplier=1.0
    )  # fmt: skip
    other = copy.deepcopy(copy.deepcopy(model) if twice else model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(2)
    fresh = Both()
    fresh.load_state_dict(other.state_dict())
    assert torch.equal(other(x), fresh(x)) and not torch.equal(other(x), model(x))
    other(x).sum().backward()
    assert all(weight.grad is not None for weight in other.parameters())
    assert all(weight.grad is None for weight in model.parameters())
    # A teacher beside the model, while a batch is going on: nothing of it counts as the model's.
    for _ in next(loop.batches()):
        losses = (model(x) - other(x).detach()).square().flatten(1).sum(1)
        norms = loop.backward(losses).norms_U
    loop.close()
    twin = Both()
    twin.load_state_dict(model.state_dict())
    clipper = Clipper(twin, 1.0)
    clipper.begin(Units.one_a_row(4))
    target = other(x).detach()
    assert torch.equal(clipper.backward((twin(x) - target).square().flatten(1).sum(1)).norms_U, norms)


def test_watching_twice_and_ending_in_either_order() -> None:
    for order in ([0, 1], [1, 0]):
        model, x = Both(), torch.randn(4, 3, 4)
        clippers = [Clipper(model, 1.0), Clipper(model, 1.0)]
        norms = []
        for clipper in clippers:
            clipper.begin(Units.one_a_row(4))
            norms.append(clipper.backward(spread(model, x)).norms_U)
        assert torch.equal(*norms)
        for number in order:
            clippers[number].remove()
        spread(model, x).sum().backward()
        assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own tracing asks for it
@pytest.mark.parametrize("first", ["compiled", "private"])
def test_compiling_changes_nothing(first: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2))
    x, found = torch.randn(5, 4), []
    for compiled in (False, True):
        whole = torch.compile(model, backend="aot_eager") if compiled else model
        clipper = Clipper(whole if first == "compiled" else model, 0.5)
        for _ in range(2):
            clipper.begin(Units.one_a_row(5))
            clipper.backward(spread(whole, x))
        found.append(clipper.take())
        clipper.remove()
    for one, other in zip(found[0].values(), found[1].values(), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-7) and one.any()


def test_the_compiler_is_not_loaded_for_those_who_never_compile() -> None:
    script = """
import sys, torch
from shuyuan.privacy import Clipper, Units
model = torch.nn.Linear(2, 2)
clipper = Clipper(model)
clipper.begin(Units.one_a_row(3))
clipper.backward(model(torch.ones(3, 2)).sum(1))
sys.exit("torch._dynamo" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# ---- the same clipper, other shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(3, 200), (200, 3)])
def test_how_a_matrix_is_kept_is_chosen_anew_for_every_shape(
    lengths: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few positions as factors, many as an array: also where the first batch was of the other kind."""
    as_factors: list[bool] = []
    add = Contributions.add_outer

    def noted(self: Contributions, A_UTI: Tensor, G_UTO: Tensor) -> None:
        add(self, A_UTI, G_UTO)
        as_factors.append(bool(self._outers))

    monkeypatch.setattr(Contributions, "add_outer", noted)
    model = nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 30))
    clipper = Clipper(model, 1.0)
    for length in lengths:
        rows = torch.randn(5, length, 30)
        clipper.begin(Units.one_a_row(5))
        norms = clipper.backward(spread(model, rows)).norms_U
        fresh = copy.deepcopy(model)
        for row in range(5):
            grads = torch.autograd.grad(spread(fresh, rows[row : row + 1]).sum(), list(fresh.parameters()))
            wanted = torch.sqrt(sum((grad.double().square().sum() for grad in grads), torch.zeros(())))
            assert float(norms[row]) == pytest.approx(float(wanted), rel=1e-4)
    assert as_factors == [length == 3 for length in lengths for _ in (0, 1)]
