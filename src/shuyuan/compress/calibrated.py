"""Pruning and rounding by what the model computes on some records: block by block, each seeing what those before it became."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..models.packed import Grid, grid_of
from ..progress import Progress
from .prune import largest
from .solve import Solved, settled, wanda
from .variant import Variant

Inputs = NDArray[np.integer[Any]]


class Fitted(NamedTuple):
    """A matrix as it is to be stored: its weights, where one is left (None: everywhere), and what they were rounded to."""

    weight: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    grid: Grid | None


class _EnoughError(Exception):
    """The forward pass has come as far as it is needed."""


def fitted(
    model: Any, names: Iterable[str], variant: Variant, records: Sequence[Inputs], progress: Progress
) -> dict[str, Fitted]:
    """Each inner matrix that records can settle: those of linear layers and of convolutions.

    Args:
        model: a network of PyTorch; it stays as it is.
        names: of its inner matrices, as its model folder has them.
        variant: what to do, by which methods.
        records: inputs of the model, without filling: (1, T) tokens each, or (B, C, H, W) images.
        progress: shows the blocks.
    """
    model = copy.deepcopy(model).cpu().eval()
    found: dict[str, Fitted] = {}
    blocks = [
        list(block) for _, block in groupby(_layers(model, set(names)), key=lambda each: _block(each[0]))
    ]
    with progress.stage(f"calibrate {variant.name}", len(blocks), "blocks") as stage, torch.no_grad():
        for block in blocks:
            moments = _moments(model, [layer for _, layer in block], records)
            for (name, layer), moments_CC in zip(block, moments, strict=True):
                solved, grid = _solved(layer.weight.flatten(1), moments_CC, variant)
                layer.weight.copy_(solved.weight_RC.view_as(layer.weight))
                mask = None if solved.mask_RC is None else solved.mask_RC.view_as(layer.weight).numpy()
                found[name] = Fitted(layer.weight.numpy().copy(), mask, grid)
            stage.advance()
    return found


def _solved(weight_RC: Tensor, moments_CC: Tensor, variant: Variant) -> tuple[Solved, Grid | None]:
    """The weights by the variant's methods."""
    rounds = variant.bits == 4 and variant.rounding == "gptq"
    if variant.pruned and variant.pruning == "sparsegpt":
        pruned = settled(weight_RC, moments_CC, share=variant.pruned)
    elif variant.pruned:
        by_records = variant.pruning == "wanda"
        mask_RC = (
            wanda(weight_RC, moments_CC, variant.pruned)
            if by_records
            else torch.from_numpy(largest(weight_RC.numpy(), variant.pruned))
        )
        pruned = Solved(weight_RC * mask_RC, mask_RC)
    else:
        pruned = Solved(weight_RC)
    if not rounds:
        return pruned, None
    grid = grid_of(pruned.weight_RC.numpy())
    return settled(weight_RC, moments_CC, grid=grid, mask_RC=pruned.mask_RC), grid


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


def _moments(model: Any, layers: Sequence[Any], records: Sequence[Inputs]) -> list[Tensor]:
    """The sum of the products of each layer's inputs (C, C), over all records and positions."""
    sums: dict[int, Tensor] = {}
    seen: list[int] = []

    def gather(layer: Any, given: tuple[Tensor, ...]) -> None:
        x_NC = _columns(layer, given[0])
        number = layers.index(layer)
        sums[number] = sums.get(number, torch.zeros(())) + x_NC.T @ x_NC
        seen.append(number)
        if len(set(seen)) == len(layers):
            raise _EnoughError

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(gather).remove)
        for inputs in records:
            seen.clear()
            try:
                model(torch.from_numpy(inputs))
            except _EnoughError:
                continue
    return [sums[number] for number in range(len(layers))]


def _columns(layer: Any, x: Tensor) -> Tensor:
    """What a layer's matrix multiplies, one row each time: (N, C)."""
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2).float()
    pieces = F.unfold(x.float(), layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return pieces.transpose(1, 2).flatten(0, 1)
