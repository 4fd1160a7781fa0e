"""The general way: a module without a rule computes row by row, each with its own copy of the parameters.

The copies are views of the one parameter, so they take no memory; autograd then gives each copy the gradient of its row.
Slower than a rule, and exact for whatever a module does with its parameters, dropout included.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from ...errors import PrivacyError

Copies = list[list[tuple[nn.Parameter, Tensor]]]  # for each row: the parameter, and the row's copy of it
Given = tuple[tuple[Any, ...], dict[str, Any]]  # arguments and keywords


class _WithoutHooks(nn.Module):
    """A module without its own hooks: they are called once, for all rows. Those of the modules inside it stay."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._forward = module.forward

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        return self._forward(*arguments, **keywords)


class RowByRow:
    """Computes a module row by row.

    Args:
        name: for errors.
        module: with all modules inside it.

    Attributes:
        out_dims: along which dimension each output counts the rows; empty before the first call with several rows.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        self._name = name
        self._module = module
        self._alone = _WithoutHooks(module)
        self._trainable = [(key, weight) for key, weight in module.named_parameters() if weight.requires_grad]
        self._dims: dict[tuple[int, ...], list[int | None]] = {}  # by how many dimensions is given what
        self.out_dims: list[int | None] = []

    def __call__(self, given: Given, rows: int) -> tuple[Any, Copies]:
        """The module's output for all rows, and the copies: in the backward pass their gradients are those of the rows.

        The first time, the output is compared with what the module computes for all rows at once.

        Args:
            given: tensors with a dimension for the rows are split along it, all else is shared.
            rows: how many there are.

        Raises:
            PrivacyError: the module cannot be computed row by row.
        """
        values, spec = tree_flatten(given)
        if any(isinstance(value, PackedSequence) for value in (*given[0], *given[1].values())):
            raise self._refusal(
                "is given a packed sequence, in which rows are mixed", "Pad the rows instead."
            )
        dims = [_row_dim(self._module, value, place, rows) for place, value in enumerate(values)]
        kind = tuple(value.ndim if isinstance(value, Tensor) else -1 for value in values)
        # What was shared once is shared, also when it happens to have as many entries as there are rows.
        before = self._dims.get(kind, dims)
        dims = [dim if dim == once else None for dim, once in zip(dims, before, strict=True)]
        if all(dim is None for dim in dims):
            raise self._refusal(
                f"is given nothing with {rows} rows, so that its parameters serve all rows at once",
                "Give it one entry a row, put its parameters into a module that sees the batch, or freeze them.",
            )
        if rows > 1:
            self._dims[kind] = dims
            if not self.out_dims:
                self.out_dims = self._compared(values, spec, dims, rows)
        copies: Copies = []
        outputs = []
        for row in range(rows):
            copies.append([(weight, weight.detach().requires_grad_()) for _, weight in self._trainable])
            outputs.append(self._one(values, spec, dims, row, [copy for _, copy in copies[-1]]))
        return (outputs[0] if rows == 1 else _joined(outputs, self.out_dims)), copies

    def _one(
        self, values: list[Any], spec: TreeSpec, dims: list[int | None], row: int, weights: list[Tensor]
    ) -> Any:
        parts = [
            value if dim is None else value.narrow(dim, row, 1)
            for value, dim in zip(values, dims, strict=True)
        ]
        arguments, keywords = tree_unflatten(parts, spec)
        names = (f"module.{key}" for key, _ in self._trainable)
        return functional_call(self._alone, dict(zip(names, weights, strict=True)), arguments, keywords)

    @torch.no_grad()
    def _compared(
        self, values: list[Any], spec: TreeSpec, dims: list[int | None], rows: int
    ) -> list[int | None]:
        """Along which dimension each output counts the rows; and that all rows at once give the same as one by one."""
        weights = [weight.detach() for _, weight in self._trainable]
        modes = [(module, module.training) for module in self._module.modules()]
        self._module.eval()  # no dropout, which differs from call to call
        try:
            arguments, keywords = tree_unflatten(values, spec)
            whole, _ = tree_flatten(self._alone(*arguments, **keywords))
            outputs = [self._one(values, spec, dims, row, weights) for row in range(rows)]
        except RuntimeError as error:
            raise self._refusal(
                f"cannot be computed row by row ({str(error).splitlines()[0]})",
                "Give what is shared by all rows no dimension that could be taken for them, in the first batch at least.",
            ) from error
        finally:
            for module, mode in modes:
                module.training = mode
        first, _ = tree_flatten(outputs[0])
        out_dims = [_joining_dim(one, every, rows) for one, every in zip(first, whole, strict=True)]
        joined, _ = tree_flatten(_joined(outputs, out_dims))
        if not all(map(_same, joined, whole)):
            raise self._refusal(
                "computes something else for all rows at once than row by row",
                "Let no row depend on another, and give tensors one entry a row, in their first dimension.",
            )
        return out_dims

    def _refusal(self, why: str, mend: str) -> PrivacyError:
        kind = type(self._module).__name__
        return PrivacyError("privacy.no-rows", f"{self._name} ({kind}) {why}.", where=self._name, mend=mend)


def _row_dim(module: nn.Module, value: Any, place: int, rows: int) -> int | None:
    """Along which dimension a tensor that a module is given counts the rows; None if along none."""
    if not isinstance(value, Tensor):
        return None
    time_first = getattr(module, "batch_first", True) is False
    states = isinstance(module, nn.RNNBase) and place > 0
    dim = 1 if value.ndim > 2 and (time_first or states) else 0
    return dim if value.ndim > dim and value.shape[dim] == rows else None


def _joining_dim(one: Any, whole: Any, rows: int) -> int | None:
    """The dimension in which the output of one row has one entry and that of all rows has as many as there are rows."""
    if not isinstance(one, Tensor) or not isinstance(whole, Tensor) or one.ndim != whole.ndim:
        return None
    for dim in range(one.ndim):
        if one.shape[dim] == 1 and whole.shape[dim] == rows:
            return dim
    return None


def _joined(outputs: list[Any], dims: list[int | None]) -> Any:
    flat = [tree_flatten(output) for output in outputs]
    columns = zip(*(values for values, _ in flat), strict=True)
    joined = [
        column[0] if dim is None else torch.cat(column, dim)
        for column, dim in zip(columns, dims, strict=True)
    ]
    return tree_unflatten(joined, flat[0][1])


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor):
        return type(one) is type(other)
    if one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    tolerance = 1e-4 if one.dtype in (torch.float32, torch.float64) else 2e-2
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)
