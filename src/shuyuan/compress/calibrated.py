"""Pruning and rounding by what the model computes on some records: block by block, each seeing what those before it became."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..models.packed import Grid, grid_of
from ..progress import Progress
from .solve import Solved, settled, wanda

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

    def pruned(name: str, weight_RC: Tensor, moments_CC: Tensor) -> Tensor:
        if method == "sparsegpt":
            found = settled(weight_RC, moments_CC, share=share)
        else:
            mask_RC = wanda(weight_RC, moments_CC, share)
            found = Solved(weight_RC * mask_RC, mask_RC)
        assert found.mask_RC is not None
        masks[name] = found.mask_RC.cpu().numpy()
        return found.weight_RC

    shapes = _walk(model, names, records, pruned, progress, "prune")
    return {name: mask.reshape(shapes[name]) for name, mask in masks.items()}


def round_to_grids(
    model: Any,
    names: Iterable[str],
    masks: Mapping[str, NDArray[np.bool_]],
    records: Sequence[Inputs],
    progress: Progress,
) -> dict[str, Grid]:
    """Rounds each inner matrix to 4 bits, in place; arguments as of `prune`, with where weights are left."""
    grids: dict[str, Grid] = {}

    def rounded(name: str, weight_RC: Tensor, moments_CC: Tensor) -> Tensor:
        grids[name] = grid_of(weight_RC.cpu().numpy())
        mask_RC = None
        if name in masks:
            mask_RC = torch.from_numpy(masks[name]).flatten(1).to(weight_RC.device)
        return settled(weight_RC, moments_CC, grid=grids[name], mask_RC=mask_RC).weight_RC

    _walk(model, names, records, rounded, progress, "round")
    return grids


def _walk(
    model: Any,
    names: Iterable[str],
    records: Sequence[Inputs],
    change: Callable[[str, Tensor, Tensor], Tensor],
    progress: Progress,
    what: str,
) -> dict[str, tuple[int, ...]]:
    """Changes each layer's weight by the moments of its inputs; the shapes of all that were changed."""
    layers = list(_layers(model, set(names)))
    blocks = [list(block) for _, block in groupby(layers, key=lambda each: _block(each[0]))]
    with progress.stage(what, len(blocks), "blocks") as stage, torch.no_grad():
        for block in blocks:
            moments = moments_of(model, [layer for _, layer in block], records)
            for (name, layer), moments_CC in zip(block, moments, strict=True):
                new = change(name, layer.weight.detach().flatten(1).clone(), moments_CC)
                layer.weight.copy_(new.view_as(layer.weight))
            stage.advance()
    return {name: tuple(layer.weight.shape) for name, layer in layers}


def _layers(model: Any, names: set[str]) -> Iterator[tuple[str, Any]]:
    """The layers whose weights have these names, in order; a convolution in groups is left to other ways."""
    _, weights = model.to_hub()
    name_of = {id(weight): name for name, weight in weights.items() if name in names}
    for layer in model.modules():
        plain = isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
        if plain and id(layer.weight) in name_of:
            yield name_of[id(layer.weight)], layer


def _block(name: str) -> str:
    """What belongs together: all up to the first number, or the layer alone."""
    found = re.match(r".*?\.\d+\.", name)
    return found[0] if found else name


def moments_of(model: Any, layers: Sequence[Any], records: Sequence[Inputs]) -> list[Tensor]:
    """The sum of the products of each layer's inputs (C, C), over all records and positions; on the device of the model."""
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
    return [sums[number] for number in range(len(layers))]


def _columns(layer: Any, x: Tensor) -> Tensor:
    """What a layer's matrix multiplies, one row each time: (N, C)."""
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2).float()
    pieces = F.unfold(x.float(), layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return pieces.transpose(1, 2).flatten(0, 1)
