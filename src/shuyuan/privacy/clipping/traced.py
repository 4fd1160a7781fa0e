"""Taps that torch's compiler can trace into the graph of a block: their backward pass is one operator, and opaque to it.

A compiled graph calls no closure. So a linear layer gets an operator of our own as its backward pass, which hands input and output
gradient to whoever is registered under the layer's number, and returns the gradient of the input. The weights of norms become a copy
for each row before the graph is entered, and are then inputs of it like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tell = Callable[[Tensor, Tensor], None]  # input, gradient of the output

_NUMBERS = count()
_TOLD: dict[int, Tell] = {}


class Watching:
    """Whether rows are being told apart; one for all taps of a model, which a compiled graph looks at."""

    on = False


class Taps:
    """What the layers of compiled blocks need to be watched; `remove` makes ordinary layers of them.

    The compiler has one graph for all blocks of one shape, so that no layer may have a forward pass of its own: each gets another class.

    Args:
        watching: of the model.
    """

    def __init__(self, watching: Watching) -> None:
        self._watching = watching
        self._modules: list[nn.Module] = []

    def linear(self, module: nn.Linear, tell: Tell) -> None:
        """Watches a linear layer.

        Args:
            module: the layer.
            tell: is handed its input and output gradient, in the backward pass.
        """
        number = next(_NUMBERS)
        _TOLD[number] = tell
        # Tensors: a number would be a constant of the graph, and each layer would need another.
        self._put(
            module, _LinearTap(self._watching, torch.tensor(number), torch.zeros((), requires_grad=True))
        )

    def norm(self, module: nn.Module) -> None:
        """Watches a module with `weight_by_row`, whose copies `give` hands over."""
        self._put(module, _NormTap(self._watching))

    def give(self, module: nn.Module, copies: Tensor) -> None:
        """The copies of a norm's weight, (N, …, C), for the next forward pass."""
        module._tap.copies = copies  # type: ignore[union-attr]

    def remove(self) -> None:
        for module in self._modules:
            tap = module.__dict__.pop("_tap")
            if isinstance(tap, _LinearTap):
                _TOLD.pop(int(tap.number), None)
            module.__class__ = type(module).__mro__[1]
        self._modules = []

    def _put(self, module: nn.Module, tap: _LinearTap | _NormTap) -> None:
        module.__dict__["_tap"] = tap
        module.__class__ = _watched_class(type(module), isinstance(tap, _NormTap))  # type: ignore[arg-type]
        self._modules.append(module)


@dataclass
class _LinearTap:
    watching: Watching
    number: Tensor
    anchor: Tensor


@dataclass
class _NormTap:
    watching: Watching
    copies: Tensor | None = None


@cache
def _watched_class(kind: Any, norm: bool) -> type[nn.Module]:
    return type(f"Watched{kind.__name__}", (kind,), {"forward": _norm_forward if norm else _linear_forward})


def _linear_forward(module: Any, x: Tensor) -> Tensor:
    tap, weight, bias = module._tap, module.weight, module.bias
    if not tap.watching.on or not torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    bias = None if bias is None else bias.detach().to(dtype)
    y: Tensor = _told_linear(tap.anchor, x.to(dtype), weight.detach().to(dtype), bias, tap.number)
    return y


def _norm_forward(module: Any, x: Tensor) -> Tensor:
    tap, weight = module._tap, module.weight
    if tap.watching.on and torch.is_grad_enabled():
        weight = for_each_row(tap.copies, x)
    y: Tensor = module.with_weight(x, weight)
    return y


def for_each_row(copies: Tensor, x: Tensor) -> Tensor:
    """(N, …, C) as it stands beside x (N, …, …, C): ones between rows and the rest."""
    return copies.view(len(copies), *[1] * (x.ndim - copies.ndim), *copies.shape[1:])


@torch.library.custom_op("shuyuan::told_linear", mutates_args=())
def _told_linear(anchor: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, number: Tensor) -> Tensor:
    """y = x W^T + b, with weights that are held still; the anchor alone makes sure that there is a backward pass."""
    return F.linear(x, weight, bias)


@_told_linear.register_fake
def _(anchor: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, number: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@torch.library.custom_op("shuyuan::tell_and_go_on", mutates_args=())
def _tell_and_go_on(grad: Tensor, x: Tensor, weight: Tensor, number: Tensor) -> Tensor:
    """Tells of a linear layer's input and output gradient, and returns the gradient of the input."""
    _TOLD[int(number)](x, grad)
    return grad @ weight


@_tell_and_go_on.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor, number: Tensor) -> Tensor:
    return grad.new_empty(*grad.shape[:-1], weight.shape[1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, x, weight, _, number = inputs
    ctx.save_for_backward(x, weight, number)


def _backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None, None]:
    return None, _tell_and_go_on(grad, *ctx.saved_tensors), None, None, None


_told_linear.register_autograd(_backward, setup_context=_keep)
