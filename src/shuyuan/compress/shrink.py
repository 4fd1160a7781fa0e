"""Whole heads and channels taken out of the transformer: a smaller ordinary model, which every processor computes faster.

Those go that add least to the stream on some records, in each block the same number; the matrix behind them is fitted anew to
what is left, by least squares. Depth and width of the stream stay.

Shapes: C channels that a matrix reads, R that it writes, D width of a head, K groups of heads that share keys and values.

Reference: Sun et al. 2023 for the score (https://arxiv.org/abs/2306.11695), Ma et al. 2023 for structure
(https://arxiv.org/abs/2305.11627)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..progress import Progress
from .calibrated import Inputs, moments_of
from .solve import DAMPING

MULTIPLE = 8  # of channels: processors like no odd numbers


def shrink(model: Any, share: float, records: Sequence[Inputs], progress: Progress) -> None:
    """Takes a share of the channels of every feed-forward layer, and of the groups of heads, out of a transformer, in place.

    Args:
        model: of the family transformer.
        share: that goes; at least MULTIPLE channels and a group of heads stay.
        records: inputs of the model, as of `calibrated.prune`.
        progress: shows the blocks.
    """
    config = model.config
    hidden = max(MULTIPLE, round((1 - share) * config.hidden / MULTIPLE) * MULTIPLE)
    groups = max(1, round((1 - share) * config.kv_heads))
    heads = config.heads // config.kv_heads
    blocks = model.model.layers
    with progress.stage("shrink", len(blocks), "blocks") as stage, torch.no_grad():
        for block in blocks:
            attention, mlp = block.self_attn, block.mlp
            (moments_CC,) = moments_of(model, [attention.o_proj], records)
            kept = _most(attention.o_proj.weight, moments_CC, heads * config.head_dim, groups)
            _keep_inputs(attention.o_proj, moments_CC, kept)
            _keep_outputs(attention.q_proj, kept)
            keys = _most_groups(kept, heads * config.head_dim, config.head_dim)
            _keep_outputs(attention.k_proj, keys)
            _keep_outputs(attention.v_proj, keys)
            (moments_CC,) = moments_of(model, [mlp.down_proj], records)
            kept = _most(mlp.down_proj.weight, moments_CC, 1, hidden)
            _keep_inputs(mlp.down_proj, moments_CC, kept)
            _keep_outputs(mlp.gate_proj, kept)
            _keep_outputs(mlp.up_proj, kept)
            stage.advance()
    model.config = replace(config, hidden=hidden, heads=groups * heads, kv_heads=groups)


def _most(weight_RC: Tensor, moments_CC: Tensor, size: int, count: int) -> Tensor:
    """The inputs, `size` of them together, whose sum adds most to what a matrix gives; their numbers, in order."""
    added_C = (weight_RC @ moments_CC).mul_(weight_RC).sum(0) if size > 1 else None
    if added_C is None:
        added_C = weight_RC.square().sum(0) * moments_CC.diagonal()
    order = added_C.view(-1, size).sum(1).argsort(descending=True, stable=True)[:count].sort().values
    return (order[:, None] * size + torch.arange(size, device=order.device)).flatten()


def _most_groups(kept: Tensor, size: int, head_dim: int) -> Tensor:
    """The keys and values of the groups of heads whose queries are kept."""
    groups = kept.view(-1, size)[:, 0] // size
    return (groups[:, None] * head_dim + torch.arange(head_dim, device=kept.device)).flatten()


def _keep_outputs(layer: Any, kept: Tensor) -> None:
    layer.weight = torch.nn.Parameter(layer.weight[kept].clone())
    layer.out_features = len(kept)


def _keep_inputs(layer: Any, moments_CC: Tensor, kept: Tensor) -> None:
    """Drops inputs, and lets the others stand for them as well as they can: W H[:, kept] H[kept, kept]⁻¹."""
    moments = moments_CC.double()
    inner = moments[kept][:, kept]
    damping = DAMPING * inner.diagonal().mean().clamp(min=1e-12)
    inner = inner + damping * torch.eye(len(kept), dtype=inner.dtype, device=inner.device)
    wanted = layer.weight.double() @ moments[:, kept]
    wanted += damping * layer.weight.double()[:, kept]  # what is damped stays as it was
    fitted = torch.linalg.solve(inner, wanted.T).T
    layer.weight = torch.nn.Parameter(fitted.float().contiguous())
    layer.in_features = len(kept)
