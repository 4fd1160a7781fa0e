"""Matrices that stay whole numbers in memory while torch multiplies by them: variants that are used where nothing is compiled.

The operators are torch's own, the same that torchao calls. Some read past the end of odd shapes, and some are missing or wrong on some
machines: so few shapes are allowed, and each matrix is tried against float32 before it is believed. All others stay floats.

Shapes: N rows of the input, R rows and C columns of a matrix, G groups of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..progress import Progress
from .packed import GROUP, Arrays, Kind
from .transformer import Embedding, Linear

Stored = tuple[str, Kind | None, Arrays]
Tensors = Mapping[str, Tensor]  # what is stored, as `packed.dense` has it, rows filled up
Place = tuple[nn.Module, str, Any]  # a module, the name of one in it, and that one
FEW = 16  # rows up to which the operator of int8 is the fastest: docs/lab-notes.md
BLOCK = 64  # must divide the columns; rows are filled up to it, so that every processor's order is one of whole blocks
CLOSE = 0.05  # of an output's typical size: inputs, scales and outputs are rounded to bfloat16
MIDDLE = 8  # the code that the operator of int4 takes for zero


class Coded(nn.Module):
    """x · Wᵀ of codes, in bfloat16; the result has the type of x.

    Args:
        codes: in the order that the operator wants.
        scale: bfloat16.
        out_features: R, without those that fill up.
        bias: (R), or None.
    """

    codes: Tensor
    scale: Tensor
    rows_of_scale: ClassVar[int]  # its axis

    def __init__(self, codes: Tensor, scale: Tensor, out_features: int, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.out_features, self.bias = out_features, bias

    def multiply(self, x_NC: Tensor) -> Tensor:
        """The product of bfloat16, with the rows that fill up."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y_NR = self.multiply(x.reshape(-1, x.shape[-1]).bfloat16()).narrow(1, 0, self.out_features)
        if self.bias is not None:
            y_NR = y_NR + self.bias
        return y_NR.reshape(*x.shape[:-1], self.out_features).to(x.dtype)

    @property
    def columns(self) -> int:
        """C."""
        raise NotImplementedError

    @property
    def weight(self) -> Tensor:
        """As floats, made anew: for code of others that looks at it."""
        eye_CC = torch.eye(self.columns, dtype=torch.bfloat16, device=self.codes.device)
        return self.multiply(eye_CC).T[: self.out_features]


class Int8(Coded):
    """Codes (R, C), a scale for each row."""

    rows_of_scale = 0

    @classmethod
    def of(cls, parts: Tensors, rows: int, bias: Tensor | None = None) -> Int8:
        """Of what is stored."""
        return cls(parts[".int8"], parts[".scale"].bfloat16(), rows, bias)

    def multiply(self, x_NC: Tensor) -> Tensor:
        if len(x_NC) <= FEW:
            return torch.ops.aten._weight_int8pack_mm(x_NC, self.codes, self.scale)  # type: ignore[no-any-return]
        return F.linear(x_NC, self.codes.bfloat16().mul_(self.scale.unsqueeze(1)))

    @property
    def columns(self) -> int:
        return self.codes.shape[1]


class Int4(Coded):
    """Codes in an order that only the operator knows; (G, R, 2), scale and what the code MIDDLE stands for."""

    rows_of_scale = 1

    @classmethod
    def of(cls, parts: Tensors, rows: int, bias: Tensor | None = None) -> Int4:
        """Of what is stored."""
        scale_RG = parts[".scale"].bfloat16()
        middle_RG = (MIDDLE - parts[".zero"].bfloat16()) * scale_RG
        pairs_GR2 = torch.stack((scale_RG.T, middle_RG.T), -1)
        return cls(cls.ordered(parts[".int4"]), pairs_GR2, rows, bias)

    @staticmethod
    def ordered(codes_RC: Tensor) -> Tensor:
        """The codes as the operator of that device wants them."""
        if codes_RC.device.type == "cpu":
            return torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes_RC.int(), 1)  # type: ignore[no-any-return]
        high, low = codes_RC.view(len(codes_RC), -1, 2).unbind(-1)
        tiles = 8 if codes_RC.shape[1] % 128 == 0 else 4  # of 16 columns
        return torch.ops.aten._convert_weight_to_int4pack(high * 16 + low, tiles)  # type: ignore[no-any-return]

    def multiply(self, x_NC: Tensor) -> Tensor:
        ops = torch.ops.aten
        on_cpu = x_NC.device.type == "cpu"
        operator = ops._weight_int4pack_mm_for_cpu if on_cpu else ops._weight_int4pack_mm
        return operator(x_NC, self.codes, GROUP, self.scale)  # type: ignore[no-any-return]

    @property
    def columns(self) -> int:
        return len(self.scale) * GROUP


class Table(nn.Module):
    """An embedding of codes (R, C) with a scale for each row: the same numbers as in float32."""

    codes: Tensor
    scale: Tensor

    def __init__(self, parts: Tensors) -> None:
        super().__init__()
        self.register_buffer("codes", parts[".int8"], persistent=False)
        self.register_buffer("scale", parts[".scale"], persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.codes[tokens] * self.scale[tokens].unsqueeze(-1)

    @property
    def weight(self) -> Tensor:
        """As floats, made anew, with the rows that fill up."""
        return self.codes * self.scale[:, None]


KINDS: dict[int, type[Int8 | Int4]] = {8: Int8, 4: Int4}


@torch.no_grad()
def keep_codes(
    network: Any, weights: Iterable[Stored], device: str, progress: Progress | None = None
) -> None:
    """Lets linear layers and embeddings of a network compute with codes; what cannot stays as it is.

    Args:
        network: of torch, in float32, on the CPU, with these weights; it is changed, and is then for use alone.
        weights: as `stored.read_codes` has them.
        device: where it will compute.
        progress: is told what stays in floats.
    """
    places, kept, reasons = _places(network), 0, []
    for name, kind, parts in weights:
        at = places.get(name, [])
        if not at or kind is None or kind.bits not in KINDS:
            continue
        try:
            tensors = _tensors(parts, kind.rows[0], device)
            made = [_made(kind, tensors, module) for _, _, module in at]
        except (RuntimeError, AttributeError) as error:
            reasons.append(
                f"torch's operator for {kind.bits} bits does not work here ({type(error).__name__})"
            )
            continue
        except _FloatsError as error:
            reasons.append(str(error))
            continue
        for (parent, child, _), ready in zip(at, made, strict=True):
            setattr(parent, child, ready)
        kept += 1
    if reasons and progress is not None:
        progress.say(
            "models.codes-as-floats",
            f"{len(reasons)} of {kept + len(reasons)} compressed matrices are computed as floats: {reasons[0]}.",
        )


def beside(modules: Iterable[nn.Module]) -> nn.Module | None:
    """One matrix of the rows of several that read the same; None where it would not be the same.

    Args:
        modules: `Int8` or `Int4`, all of one kind and of as many columns.

    Returns:
        None also where one of them has rows that fill no whole block.
    """
    several: list[Any] = list(modules)
    kinds = {type(module) for module in several}
    if len(kinds) > 1 or not kinds & {Int8, Int4} or any(module.out_features % BLOCK for module in several):
        return None
    (kind,) = kinds
    codes = torch.cat([module.codes for module in several])
    scale = torch.cat([module.scale for module in several], kind.rows_of_scale)
    one: nn.Module = kind(codes, scale, sum(module.out_features for module in several))
    x_NC = _inputs(several[0].columns)[:3].to(codes.device)
    wanted_NR = torch.cat([module(x_NC) for module in several], -1)
    return one if torch.equal(one(x_NC), wanted_NR) else None


class _FloatsError(Exception):
    """Why a weight stays in floats."""


def _places(network: Any) -> dict[str, list[Place]]:
    """Where each weight is used, by its stored name: in plain layers alone, since others may compute something else."""
    names = {id(weight): name for name, weight in network.to_hub()[1].items()}
    places: dict[str, list[Place]] = {}
    for parent in list(network.modules()):
        for child, module in parent.named_children():
            is_table = type(module) in (nn.Embedding, Embedding) and module.max_norm is None
            if (is_table or type(module) in (nn.Linear, Linear)) and id(module.weight) in names:
                places.setdefault(names[id(module.weight)], []).append((parent, child, module))
    return places


def _made(kind: Kind, tensors: Tensors, module: Any) -> nn.Module:
    """The layer with codes; its results are those of float32.

    Raises:
        _FloatsError: they are not, or it is not tried.
    """
    (R, C), bits = kind.rows, kind.bits
    if isinstance(module, nn.Embedding):
        if bits != 8:
            raise _FloatsError(f"an embedding of {bits} bits is not computed as such")
        return Table(tensors)
    if C % BLOCK:
        raise _FloatsError(
            f"torch's operators are known to be right where {BLOCK} divides the columns, and {C} are here"
        )
    coded = KINDS[bits].of(tensors, R, module.bias)
    x_NC = _inputs(C)
    wanted_NR, most_R = F.linear(x_NC, module.weight), CLOSE * module.weight.norm(dim=1)
    for count in (1, 3, FEW, FEW + 1):  # operators have different code for few rows
        found_NR = coded.multiply(x_NC[:count].bfloat16().to(coded.codes.device))[:, :R].float().cpu()
        if not ((found_NR - wanted_NR[:count]).abs() <= most_R).all():
            raise _FloatsError(f"torch's operator for {bits} bits is wrong on this machine")
    return coded


def _inputs(columns: int) -> Tensor:
    return torch.randn(FEW + 1, columns, generator=torch.Generator().manual_seed(0))


def _tensors(parts: Arrays, rows: int, device: str) -> Tensors:
    """On the device, with rows of zeros up to the next BLOCK; what was read from a file cannot be written to, so it is copied."""
    return {
        ending: torch.from_numpy(np.pad(part, [(0, -rows % BLOCK), *[(0, 0)] * (part.ndim - 1)])).to(device)
        for ending, part in parts.items()
        if ending != ".mask"
    }
