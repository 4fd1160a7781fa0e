"""Our transformer on a CPU where nothing can be compiled: torch computes it, in few steps.

At one token a step most of the time is what each step of torch costs. So matrices that read the same are one, in the order
that oneDNN reads fastest and in bfloat16 where that pays; the stream, norms and attention are float32.

Shapes: as in models.transformer.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .transformer import Attend, Attention, Block, RMSNorm, SwiGLU, Transformer

CLOSE = 0.02  # of an output's typical size: bfloat16 rounds to 0.004, and sums are taken in another order


def prepared(model: Transformer, half: bool) -> Transformer:
    """The same model, for writing alone: it has no weights to train or to save any more.

    Args:
        model: on the CPU, in float32; it is changed.
        half: multiplies by bfloat16 instead of float32.
    """
    for block in model.model.layers:
        assert isinstance(block, Block)
        block.input_layernorm = _Norm(block.input_layernorm)
        block.self_attn = _Attention(block.self_attn, half)
        block.post_attention_layernorm = _Norm(block.post_attention_layernorm)
        block.mlp = _SwiGLU(block.mlp, half)
    model.model.norm = _Norm(model.model.norm)
    model.lm_head = _product(half, model.lm_head.weight)
    return model.eval()


class _Attention(nn.Module):
    def __init__(self, given: Attention, half: bool) -> None:
        super().__init__()
        self._shape = (-1, given.head_dim)
        rows = [len(each.weight) // given.head_dim for each in (given.q_proj, given.k_proj, given.v_proj)]
        self._heads = rows
        self._qkv = _product(half, given.q_proj.weight, given.k_proj.weight, given.v_proj.weight)
        self._out = _product(half, given.o_proj.weight)
        norms = [given.q_norm.weight.expand(rows[0], -1), given.k_norm.weight.expand(rows[1], -1)]
        self._norm = _Norm(given.q_norm, torch.cat(norms))

    def forward(self, x_BTC: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        heads = self._qkv(x_BTC).unflatten(-1, self._shape)
        q_and_k, v_BTKD = heads.split((self._heads[0] + self._heads[1], self._heads[2]), 2)
        normed = self._norm(q_and_k)
        turned = torch.addcmul(normed * cos, normed.roll(normed.shape[-1] // 2, -1), sin)
        q_BTHD, k_BTKD = turned.split(self._heads[:2], 2)
        y_BHTD = attend(q_BTHD.transpose(1, 2), k_BTKD.transpose(1, 2), v_BTKD.float().transpose(1, 2))
        y_BTC: Tensor = self._out(y_BHTD.transpose(1, 2).flatten(2))
        return y_BTC


class _SwiGLU(nn.Module):
    def __init__(self, given: SwiGLU, half: bool) -> None:
        super().__init__()
        self._gate_and_up = _product(half, given.gate_proj.weight, given.up_proj.weight)
        self._down = _product(half, given.down_proj.weight)

    def forward(self, x_BTC: Tensor) -> Tensor:
        gate, up = self._gate_and_up(x_BTC).chunk(2, -1)
        y_BTC: Tensor = self._down(F.silu(gate).mul_(up))
        return y_BTC


class _Norm(nn.Module):
    """x · weight / sqrt(mean(x²) + eps), with C under the root on both sides: four steps."""

    def __init__(self, given: RMSNorm, weight: Tensor | None = None) -> None:
        super().__init__()
        weight = given.weight if weight is None else weight
        width = weight.shape[-1]
        self._weight = weight.detach() * width**0.5
        self._least = torch.tensor((given.eps * width) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        return (x * self._weight).div_(torch.hypot(length, self._least))


class _Product(nn.Module):
    """x · weightᵀ; the weight is in oneDNN's own order."""

    def __init__(self, weight_RC: Tensor) -> None:
        super().__init__()
        self._kind = weight_RC.dtype
        self._packed: Any = torch.ops.mkldnn._reorder_linear_weight(weight_RC, 1)
        self._multiply: Any = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._multiply(x.to(self._kind), self._packed, None, "none", [], "")
        return y


class _Plain(nn.Module):
    """x · weightᵀ."""

    def __init__(self, weight_RC: Tensor) -> None:
        super().__init__()
        self._weight_RC = weight_RC

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self._weight_RC.dtype), self._weight_RC)


@torch.inference_mode()
def _product(half: bool, *weights: Tensor) -> nn.Module:
    """The product with these matrices, one under the other, packed if torch can and the result is right."""
    weight_RC = torch.cat([weight.detach() for weight in weights]).to(
        torch.bfloat16 if half else torch.float32
    )
    x_NC = torch.randn(2, weight_RC.shape[1], generator=torch.Generator().manual_seed(0))
    wanted_NR = x_NC @ weight_RC.float().T
    try:
        product = _Product(weight_RC)
        error_NR = product(x_NC).float() - wanted_NR
    except (RuntimeError, AttributeError):  # a torch without oneDNN, or with other operators
        return _Plain(weight_RC)
    size = wanted_NR.square().mean().sqrt()
    return product if error_NR.abs().max() <= CLOSE * size else _Plain(weight_RC)
