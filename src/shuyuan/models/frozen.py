"""The quantised base of LoRA: frozen matrices that stay codes in memory, and are computed in floats a matrix at a time.

Codes and scales are those of `packed`, rounded to the nearest. The forward pass multiplies by the floats that they stand for, and the
backward pass makes these floats once more: nothing of them is kept in between, and the gradient goes to the input alone.

Reference: Dettmers et al., "QLoRA: Efficient finetuning of quantized LLMs", NeurIPS 2023 (arXiv 2305.14314), with other codes.

Shapes: R rows and C columns of a matrix, G groups of a row, H bytes of a row of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ShuyuanError
from .config import in_block
from .hub_config import other_matrices
from .layout import Later
from .packed import GROUP, Floats, pack
from .transformer import Linear


class FrozenLinear(nn.Module):
    """x · Wᵀ + b of a matrix that is kept as codes; it has no parameters.

    Args:
        weight_RC: finite.
        bits: of a code, 8 or 4.
        bias: (R), or None.

    Raises:
        ShuyuanError: a weight is not finite, or absurdly large.
    """

    codes: Tensor  # int8 (R, C), or two a byte (R, H) of whole groups
    scale: Tensor  # float32 (R), or float16 (R, G)
    zero: Tensor | None  # uint8 (R, G), at 4 bits
    bias: Tensor | None

    def __init__(self, weight_RC: Floats, bits: int, bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight_RC.shape
        if bits == 4:  # a row ends with its last group, so that rows can be cut into groups
            weight_RC = np.pad(weight_RC, ((0, 0), (0, -self.in_features % GROUP)))
        _, parts = pack(weight_RC, bits)
        tensors = {ending: torch.from_numpy(part) for ending, part in parts.items()}
        self.register_buffer("codes", tensors[f".int{bits}"].view(self.out_features, -1))
        self.register_buffer("scale", tensors[".scale"])
        self.register_buffer("zero", tensors.get(".zero"))
        self.register_buffer("bias", None if bias is None else bias.detach())
        self._added: tuple[Tensor, Tensor, float] | None = None

    @property
    def numbers(self) -> int:
        """That the layer stands for: its weights and biases."""
        return int(self.out_features * (self.in_features + (self.bias is not None)))

    @property
    def weight(self) -> Tensor:
        """The floats that the codes stand for, with what was added to them, made anew: (R, C), float32."""
        weight = self._decoded()
        if self._added is not None:
            up, down, scale = self._added
            weight = torch.addmm(weight, up, down, alpha=scale)
        return weight

    def add(self, up: Tensor, down: Tensor, scale: float) -> None:
        """Lets the layer stand for scale · up · down more; the codes stay as they are.

        Args:
            up: (R, rank).
            down: (rank, C).
            scale: any.
        """
        self._added = (up.detach(), down.detach(), scale)

    def _decoded(self) -> Tensor:
        if self.zero is None:
            return self.codes.float().mul_(self.scale[:, None])
        pairs_RH = self.codes
        groups = (*self.zero.shape, GROUP)
        weight = torch.stack((pairs_RH & 15, pairs_RH >> 4), -1).view(groups).float()
        weight.sub_(self.zero[..., None]).mul_(self.scale[..., None])
        return weight.flatten(1)[:, : self.in_features]

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        y: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def to_hub(self) -> Iterator[tuple[str, Floats | Later]]:
        """What an ordinary layer stores, by the endings of the names; its weight is made when it is written."""
        yield "weight", Later((self.out_features, self.in_features), lambda: self.weight.cpu().numpy())
        if self.bias is not None:
            yield "bias", self.bias.cpu().numpy()


class _Product(torch.autograd.Function):
    """x · Wᵀ, which keeps the layer for its backward pass, and so nothing that was not there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FrozenLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        return grad @ ctx.layer.weight.to(grad.dtype), None


def freeze_matrices(model: nn.Module, bits: int) -> None:
    """Keeps every matrix inside a model's blocks as codes alone, one after the other; embeddings, norms and the head stay floats.

    Args:
        model: in float32, on the CPU; it is changed.
        bits: of a code, 8 or 4.

    Raises:
        RecipeError: a block has matrices of another kind than `nn.Linear`.
        ShuyuanError: a weight is not finite, or absurdly large; it is named.
    """
    for name, module in list(model.named_modules()):
        if not in_block(name + ".") or isinstance(module, FrozenLinear | nn.Embedding):
            continue
        if type(module) in (nn.Linear, Linear):
            parent, _, last = name.rpartition(".")
            setattr(
                model.get_submodule(parent),
                last,
                frozen(name, module.weight.detach().numpy(), bits, module.bias),
            )
        elif any(weight.ndim > 1 for weight in module.parameters(recurse=False)):
            raise other_matrices(type(module).__name__)


def frozen(name: str, weight_RC: Floats, bits: int, bias: Tensor | None = None) -> FrozenLinear:
    """One matrix as codes; `name` is for errors."""
    try:
        return FrozenLinear(weight_RC, bits, bias)
    except ShuyuanError as error:
        raise ShuyuanError(
            error.code,
            f"A weight of {name[:80]} is not a finite number, or is larger than any sound one: the base cannot be kept in {bits} bits.",
            where="model.from",
            mend="Start from a sound model.",
        ) from None


def frozen_layers(model: nn.Module) -> Iterator[tuple[str, FrozenLinear]]:
    """The layers that are kept as codes, with their names.

    Args:
        model: any.
    """
    for name, module in model.named_modules():
        if isinstance(module, FrozenLinear):
            yield name, module
