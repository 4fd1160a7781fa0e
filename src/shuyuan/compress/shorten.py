"""Whole blocks taken out of the transformer: a shallower ordinary model, which every processor computes faster.

Those go that change the direction of the stream least on some records; all are looked at once, in the whole model.

Reference: Men et al. 2024, ShortGPT, https://arxiv.org/abs/2403.03853
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .calibrated import Inputs


@torch.no_grad()
def shorten(model: Any, share: float, records: Sequence[Inputs]) -> None:
    """Takes a share of the blocks out of a transformer, in place.

    Args:
        model: of the family transformer.
        share: that goes; at least one block stays, and at least one goes where there are two.
        records: inputs of the model, as of `calibrated.prune`.
    """
    blocks = list(model.model.layers)
    gone = min(max(1, round(share * len(blocks))), len(blocks) - 1)
    change = _changes(model, blocks, records)
    left = sorted(sorted(range(len(blocks)), key=change.__getitem__)[gone:])
    model.model.layers = nn.ModuleList(blocks[number] for number in left)
    model.config = replace(model.config, layers=len(left))


def _changes(model: Any, blocks: Sequence[nn.Module], records: Sequence[Inputs]) -> list[float]:
    """How far each block turns the stream, from 0 for not at all: one minus the mean cosine."""
    device = next(model.parameters()).device
    turned = [0.0] * len(blocks)

    def turn(number: int, _: nn.Module, given: tuple[Tensor, ...], x_BTC: Tensor) -> None:
        cosines_BT = F.cosine_similarity(given[0].float(), x_BTC.float(), dim=-1)
        turned[number] += float((1 - cosines_BT).sum())

    with ExitStack() as stack:
        for number, block in enumerate(blocks):
            stack.callback(block.register_forward_hook(partial(turn, number)).remove)
        for inputs in records:
            model(torch.from_numpy(inputs).to(device))
    return turned
