"""The blocks of a model, and activation checkpointing: of each block its input alone is kept, and the block is computed again in the
backward pass.

Reference: Chen et al. 2016, "Training deep nets with sublinear memory cost" (arXiv 1604.06174).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import TrainError


def checkpoint_blocks(model: nn.Module) -> None:
    """Has each block of a model forget what it computed, and compute it again when its gradient comes; what is left out at random is then
    the same, and so is every bit of loss and gradients.

    Args:
        model: with its blocks in an `nn.ModuleList`; its parameters keep their names.

    Raises:
        TrainError: the model has no blocks.
    """
    for block in blocks_of(model, "train.activation_checkpointing"):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def plain_blocks(model: nn.Module) -> None:
    """Takes away what was put around the blocks of a model: they compute what their class says."""
    for block in _blocks(model):
        block.__dict__.pop("forward", None)


def blocks_of(model: nn.Module, key: str) -> list[nn.Module]:
    """The members of the outermost lists of modules.

    Args:
        model: any.
        key: of the recipe, which asks for something with each block.

    Raises:
        TrainError: there are none.
    """
    blocks = list(_blocks(model))
    if not blocks:
        raise TrainError(
            "train.no-blocks",
            f"The model has no blocks, which {key} is about.",
            where=key,
            mend=f"Leave {key} out.",
        )
    return blocks


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _blocks(child)
