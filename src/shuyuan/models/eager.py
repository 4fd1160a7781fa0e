"""Our transformer on a CPU where nothing can be compiled: torch computes it, in few steps.

At one token a step most of the time is what each step of torch costs. So matrices that read the same are one, in the order
that oneDNN reads fastest and in bfloat16 where that pays, or codes as models.coded has them; the stream, norms and attention are float32.

Shapes: as in models.transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .coded import Coded, beside
from .transformer import Attend, Block, Transformer

Change: TypeAlias = Callable[[Tensor], Tensor]
CLOSE = 0.02  # of an output's typical size: bfloat16 rounds to 0.004, and sums are taken in another order


def prepared(model: Transformer, half: bool) -> Transformer:
    """The same model, for writing alone: it has no weights to train or to save any more.

    Args:
        model: on the CPU, in float32; it is changed.
        half: multiplies by bfloat16 instead of float32.
    """
    for number, block in enumerate(model.model.layers):
        assert isinstance(block, Block)
        model.model.layers[number] = _Block(block, half)
    model.lm_head = _product(half, model.lm_head)  # type: ignore[assignment]
    return model.eval()


class _Block(nn.Module):
    """Attention, then SwiGLU, as `Block`; what reads the same input is computed at once."""

    def __init__(self, given: Block, half: bool) -> None:
        super().__init__()
        attention, mlp = given.self_attn, given.mlp
        projections = attention.q_proj, attention.k_proj, attention.v_proj
        self._head_dim = attention.head_dim
        H, K, _ = self._heads = [layer.out_features // attention.head_dim for layer in projections]
        self._qkv = _product(half, *projections)
        self._out = _product(half, attention.o_proj)
        self._gate_and_up = _product(half, mlp.gate_proj, mlp.up_proj)
        self._down = _product(half, mlp.down_proj)
        eps = attention.q_norm.eps
        self._norm_in = _norm(given.input_layernorm.weight, eps)
        self._norm_after = _norm(given.post_attention_layernorm.weight, eps)
        weights = attention.q_norm.weight.expand(H, -1), attention.k_norm.weight.expand(K, -1)
        self._norm_heads = _norm(torch.cat(weights), eps)

    def forward(self, x_BTC: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        H, K, _ = self._heads
        heads = self._qkv(self._norm_in(x_BTC)).view(*x_BTC.shape[:2], -1, self._head_dim)
        normed = self._norm_heads(heads[:, :, : H + K])
        turned = torch.addcmul(normed * cos, normed.roll(normed.shape[-1] // 2, -1), sin).transpose(1, 2)
        y_BHTD = attend(turned[:, :H], turned[:, H:], heads[:, :, H + K :].float().transpose(1, 2))
        x_BTC = x_BTC + self._out(y_BHTD.transpose(1, 2).flatten(2))
        gate, up = self._gate_and_up(self._norm_after(x_BTC)).chunk(2, -1)
        y_BTC: Tensor = x_BTC + self._down(F.silu(gate).mul_(up))
        return y_BTC


def _norm(weight: Tensor, eps: float) -> Change:
    """x · weight / sqrt(mean(x²) + eps), with C under the root on both sides: four steps."""
    width = weight.shape[-1]
    scale, least = weight.detach() * width**0.5, torch.tensor((eps * width) ** 0.5)

    def norm(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        normed: Tensor = (x * scale).div_(torch.hypot(length, least))
        return normed

    return norm


def _product(half: bool, *layers: nn.Module) -> nn.Module:
    """x · Wᵀ of the layers' matrices, one under the other; of codes, by their own operators."""
    if any(isinstance(layer, Coded) for layer in layers):
        return layers[0] if len(layers) == 1 else beside(layers) or _Joined(layers)
    return _Product(half, [layer.weight.detach() for layer in layers])  # type: ignore[operator]


class _Product(nn.Module):
    """In oneDNN's order if torch has that and its result is right."""

    weight: Tensor

    def __init__(self, half: bool, weights: list[Tensor]) -> None:
        super().__init__()
        self._kind = torch.bfloat16 if half else torch.float32
        weight_RC = torch.cat(weights).to(self._kind)
        self.register_buffer("weight", weight_RC, persistent=False)
        self._multiply: Any = F.linear
        try:
            packed: Any = torch.ops.mkldnn._reorder_linear_weight(weight_RC, 1)
            self._multiply = partial(_pointwise, torch.ops.mkldnn._linear_pointwise.default)
        except (RuntimeError, AttributeError):  # a torch without oneDNN, or with other operators
            return
        self.weight = packed
        x_NC = torch.randn(2, weight_RC.shape[1], generator=torch.Generator().manual_seed(0))
        wanted_NR = x_NC @ weight_RC.float().T
        error_NR = self(x_NC).float() - wanted_NR
        if not error_NR.abs().max() <= CLOSE * wanted_NR.square().mean().sqrt():
            self._multiply, self.weight = F.linear, weight_RC

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._multiply(x.to(self._kind), self.weight)
        return y


class _Joined(nn.Module):
    """The outputs of several layers, side by side."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self._layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layer(x) for layer in self._layers], -1)


def _pointwise(operator: Any, x: Tensor, weight: Tensor) -> Tensor:
    y: Tensor = operator(x, weight, None, "none", [], "")
    return y
