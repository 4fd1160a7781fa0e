"""Pruning and rounding by what the model computes on some records: block by block, each seeing what those before it became."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ShuyuanError
from ..models.packed import Grid, grid_of
from ..progress import Progress
from .solve import Solved, settled, spread, wanda

Inputs = NDArray[np.integer[Any]]
Masks = dict[str, NDArray[np.bool_]]


class _EnoughError(Exception):
    """The forward pass has come as far as it is needed."""


def prune(
    model: Any, names: Iterable[str], share: float, method: str, records: Sequence[Inputs], progress: Progress
) -> Masks:
    """Takes a share of the weights out of each inner matrix, in place; the masks say where one is left.

    Args:
        model: a network of PyTorch, on the device that shall compute this.
        names: of its inner matrices, as its model folder has them.
        share: of each matrix.
        method: "sparsegpt" or "wanda".
        records: inputs of the model, without filling: (1, T) tokens each, or (B, C, H, W) images.
        progress: shows the blocks.
    """
    masks: Masks = {}

    def pruned(name: str, layer: _Layer, moments_CC: Tensor) -> Tensor:
        weight_RC = layer.matrix()
        if method == "sparsegpt":
            found = settled(weight_RC, moments_CC, share=share)
        else:
            mask_RC = wanda(weight_RC, moments_CC, share)
            found = Solved(weight_RC * mask_RC, mask_RC)
        assert found.mask_RC is not None
        masks[name] = layer.stored(found.mask_RC).cpu().numpy()
        return found.weight_RC

    _walk(model, names, records, pruned, progress, "prune")
    return masks


def round_to_grids(
    model: Any,
    names: Iterable[str],
    masks: Mapping[str, NDArray[np.bool_]],
    records: Sequence[Inputs],
    progress: Progress,
) -> dict[str, Grid]:
    """Rounds each inner matrix to 4 bits, in place; arguments as of `prune`, with where weights are left.

    Args:
        model, names, records, progress: as of `prune`.
        masks: where weights are left, of the matrices that were pruned.

    Returns:
        Name of a matrix to the grid that it was rounded to.
    """
    grids: dict[str, Grid] = {}

    def rounded(name: str, layer: _Layer, moments_CC: Tensor) -> Tensor:
        weight = layer.weight.detach().flatten(1)
        grids[name] = grid_of(weight.cpu().numpy())  # of rows and groups as they are stored
        scale, zero = (layer.turned(each) for each in spread(grids[name], weight.shape[1]))
        mask_RC = None
        if name in masks:
            mask_RC = layer.turned(torch.from_numpy(masks[name]).flatten(1)).to(weight.device)
        return settled(layer.matrix(), moments_CC, grid=(scale, zero), mask_RC=mask_RC).weight_RC

    _walk(model, names, records, rounded, progress, "round")
    return grids


def _walk(
    model: Any,
    names: Iterable[str],
    records: Sequence[Inputs],
    change: Callable[[str, _Layer, Tensor], Tensor],
    progress: Progress,
    what: str,
) -> None:
    """Changes each layer's matrix by the moments of its inputs."""
    layers = list(_layers(model, set(names)))
    blocks = [list(block) for _, block in groupby(layers, key=lambda each: _block(each[0]))]
    with progress.stage(what, len(blocks), "blocks") as stage, torch.no_grad():
        for block in blocks:
            moments = moments_of(model, [layer.module for _, layer in block], records)
            for (name, layer), moments_CC in zip(block, moments, strict=True):
                layer.weight.copy_(layer.stored(change(name, layer, moments_CC)))
            stage.advance()


@dataclass(frozen=True)
class _Layer:
    """A module with a matrix (R, C) that multiplies its inputs; GPT-2's is stored the other way round."""

    module: Any

    @property
    def weight(self) -> Any:
        return self.module.weight

    def turned(self, stored: Tensor) -> Tensor:
        """What is stored, rows and columns, as the matrix has it; or back."""
        return stored.T if _is_turned(self.module) else stored

    def matrix(self) -> Tensor:
        return self.turned(self.weight.detach().flatten(1)).clone()

    def stored(self, matrix_RC: Tensor) -> Tensor:
        """In the weight's own shape."""
        return self.turned(matrix_RC).reshape(self.weight.shape)


def _is_turned(module: Any) -> bool:
    """Whether it is a Conv1D of transformers, which is told by its name, so that transformers need not be loaded."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def _layers(model: Any, names: set[str]) -> Iterator[tuple[str, _Layer]]:
    """The layers whose weights have these names, in order; a convolution in groups is left to other ways."""
    _, weights = model.to_hub()
    name_of = {id(weight): name for name, weight in weights.items() if name in names}
    for layer in model.modules():
        plain = isinstance(layer, nn.Linear) or _is_turned(layer)
        if isinstance(layer, nn.Conv2d):
            plain = layer.groups == 1
        if plain and id(layer.weight) in name_of:
            yield name_of[id(layer.weight)], _Layer(layer)


def _block(name: str) -> str:
    """What belongs together: all up to the first number, or the layer alone."""
    found = re.match(r".*?\.\d+\.", name)
    return found[0] if found else name


def moments_of(model: Any, layers: Sequence[Any], records: Sequence[Inputs]) -> list[Tensor]:
    """The sum of the products of each layer's inputs (C, C), over all records and positions; on the device of the model.

    Args:
        model: the network.
        layers: of it, in the order in which their sums are wanted.
        records: inputs of the network.

    Raises:
        ShuyuanError: some is not finite.
    """
    device = layers[0].weight.device
    sums: dict[int, Tensor] = {}
    seen: set[int] = set()

    def gather(layer: Any, given: tuple[Tensor, ...]) -> None:
        x_NC = _columns(layer, given[0])
        number = layers.index(layer)
        products_CC = x_NC.T @ x_NC
        sums[number] = sums[number] + products_CC if number in sums else products_CC
        seen.add(number)
        if len(seen) == len(layers):
            raise _EnoughError

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(gather).remove)
        for inputs in records:
            seen.clear()
            try:
                model(torch.from_numpy(inputs).to(device))
            except _EnoughError:
                continue
    if not all(moments_CC.isfinite().all() for moments_CC in sums.values()):
        raise ShuyuanError(
            "compress.not-finite",
            "What the model computes on some record is not a finite number, so that no weight can be chosen by it.",
            where="compress",
            mend='Choose rounding = "nearest" and pruning = "magnitude", or train again with a lower learning rate.',
        )
    return [sums[number] for number in range(len(layers))]


def _columns(layer: Any, x: Tensor) -> Tensor:
    """What a layer's matrix multiplies, one row each time: (N, C)."""
    if layer.weight.ndim == 2:
        return x.flatten(0, -2).float()
    pieces = F.unfold(x.float(), layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return pieces.transpose(1, 2).flatten(0, 1)
