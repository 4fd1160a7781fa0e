"""The transformer, in exactly the layout of Qwen3, with its parameter names.

Root-mean-square norms before each half of a block, rotary positions, grouped-query attention whose queries and keys
are normed by head, a SwiGLU layer, no biases; the output head may be the embedding.

Shapes: B sequences, T tokens of each, S keys that they see, V vocabulary, C width of the stream, H query heads,
K key-value heads, D width of a head, N tokens of all sequences. A name without letters is explained where it stands.

Reference: Qwen3 technical report, https://arxiv.org/abs/2505.09388
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ShuyuanError
from .config import TransformerConfig
from .functions import LEARN_NOTHING, attend_causal, cross_entropy, rms_norm, rotary_tables, rotate

if TYPE_CHECKING:
    from .cache import Cache

LEARNED_MULTIPLE = 256  # of tokens whose logits are computed, where not all are learned
# What one layer does with its queries, keys and values: attend among them, or with those in a cache too.
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # q_BHTD, k_BKTD, v_BKTD -> y_BHTD


class Transformer(nn.Module):
    """A language model: token ids in, logits of the next token out.

    Args:
        config: the shape.
        seed: start of the initial weights; None leaves them unset, for a loader.

    Attributes:
        new: names of the parameters that were drawn, in a model whose others were loaded; None where all were drawn.

    Example:
        >>> model = Transformer(TransformerConfig.from_recipe(recipe.model, vocab_size=257, end_id=256))
        >>> logits_BTV = model(tokens_BT)
    """

    def __init__(self, config: TransformerConfig, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        self.new: frozenset[str] | None = None
        self.cross_entropy = cross_entropy  # another that gives the same may be put in its place
        self.model = Stack(config)
        self.lm_head = Linear(config.width, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        if seed is not None:
            init_weights(self, seed)

    @property
    def context(self) -> int:
        """Tokens that the model sees at once."""
        return self.config.context

    def forward(self, tokens_BT: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits of the token after each token.

        Args:
            tokens_BT: token ids, int64.
            cache: what the sequences said before; they go on from there, and the cache then holds these tokens too.

        Returns:
            logits_BTV: float32, or the type that autocast chooses.

        Raises:
            ShuyuanError: the sequences grow longer than the context, or than the cache.
        """
        logits_BTV: Tensor = self.lm_head(self.model(tokens_BT, cache))
        return logits_BTV

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """The sum of the cross entropies, in nats, of all targets that are not -100.

        Args:
            tokens_BT: token ids, int64.
            targets_BT: the token that should follow each, or -100 where nothing is to be learned.

        Returns:
            A float32 scalar; divide it by the number of learned targets for the mean.
        """
        learned_BT = targets_BT != LEARN_NOTHING
        if learned_BT.all():
            return self.losses(tokens_BT, targets_BT).sum()
        # The head is the larger half of a small model: prompts need none of its logits. Some are computed all the same, so that
        # there are few shapes: libraries prepare themselves for each, and remember it.
        place_N = learned_BT.flatten().nonzero().squeeze(1)
        empty = -len(place_N) % LEARNED_MULTIPLE
        logits_NV = self.lm_head(self.model(tokens_BT).flatten(0, 1)[F.pad(place_N, (0, empty))])
        targets_N = F.pad(targets_BT.flatten()[place_N], (0, empty), value=LEARN_NOTHING)
        return self.cross_entropy(logits_NV, targets_N).sum()

    def losses(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """The cross entropy, in nats, of each target: float32 (B, T), zero where the target is -100.

        Args:
            tokens_BT, targets_BT: as of `loss`.
        """
        # Not by `self(…)`: a sharded model would gather its outer weights once more, on the ranks alone that come here.
        logits_NV = self.lm_head(self.model(tokens_BT)).flatten(0, 1)
        return self.cross_entropy(logits_NV, targets_BT.flatten()).view(targets_BT.shape)

    def to_hub(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The content of config.json, and the weights by name; a tied head is not there twice."""
        return self.config.to_hub(), dict(self.named_parameters())


@torch.no_grad()
def init_weights(model: nn.Module, seed: int) -> None:
    """Sets every weight from the seed alone; the global random state is neither read nor moved.

    Matrices are normal with deviation 0.02. Those that write into the stream start at zero, so that every block
    starts as the identity (https://arxiv.org/abs/1901.09321). Norms start at one.

    Args:
        model: a transformer, on any device.
        seed: start of the weights; the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            weight.fill_(1.0)
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.zero_()
        else:  # drawn on the CPU, so that a seed means the same weights on every device
            weight.copy_(torch.empty(weight.shape).normal_(0.0, 0.02, generator=generator))


class Stack(nn.Module):
    """Everything below the output head: the embedding, the blocks and the last norm."""

    cos: Tensor  # both (context, D/2)
    sin: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        cos, sin = rotary_tables(config.head_dim, config.context, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens_BT: Tensor, cache: Cache | None = None) -> Tensor:
        """The stream after the last norm, x_BTC; arguments as in `Transformer.forward`."""
        x_BTC = as_autocast(self.embed_tokens(tokens_BT))
        T = tokens_BT.shape[1]
        where: slice | Tensor
        layers: Iterable[Attend]
        if cache is None:
            self._check_length(T)
            where, layers = slice(0, T), repeat(attend_causal)
        else:
            where, layers = cache.extend(T)
        # Inserted is the axis of heads: (T, 1, D/2), or (B, T, 1, D/2) where sequences are at different positions.
        cos, sin = (table[where].unsqueeze(-2).to(x_BTC.dtype) for table in (self.cos, self.sin))
        cos, sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
        for block, attend in zip(self.layers, layers, strict=False):
            x_BTC = block(x_BTC, cos, sin, attend)
        normed_BTC: Tensor = self.norm(x_BTC)
        return normed_BTC

    def _check_length(self, length: int) -> None:
        if length > len(self.cos):
            raise ShuyuanError(
                "models.too-long",
                f"A sequence of {length} tokens is longer than the model's context of {len(self.cos)}.",
                mend="Cut it into pieces, or train with a larger `model.context`.",
            )


class Block(nn.Module):
    """Attention, then SwiGLU; each reads the normed stream and adds to it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.width, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x_BTC: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        x_BTC = x_BTC + self.self_attn(self.input_layernorm(x_BTC), cos, sin, attend)
        y_BTC: Tensor = x_BTC + self.mlp(self.post_attention_layernorm(x_BTC))
        return y_BTC


class Attention(nn.Module):
    """Grouped-query attention; queries and keys are normed by head, then turned by their position."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.q_proj = Linear(config.width, config.heads * config.head_dim, bias=False)
        self.k_proj = Linear(config.width, config.kv_heads * config.head_dim, bias=False)
        self.v_proj = Linear(config.width, config.kv_heads * config.head_dim, bias=False)
        self.o_proj = Linear(config.heads * config.head_dim, config.width, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.norm_eps)

    def forward(self, x_BTC: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        by_head = (*x_BTC.shape[:2], -1, self.head_dim)
        q_BTHD = rotate(self.q_norm(self.q_proj(x_BTC).view(by_head)), cos, sin)
        k_BTKD = rotate(self.k_norm(self.k_proj(x_BTC).view(by_head)), cos, sin)
        v_BTKD = self.v_proj(x_BTC).view(by_head)
        y_BHTD = attend(q_BTHD.transpose(1, 2), k_BTKD.transpose(1, 2), v_BTKD.transpose(1, 2))
        y_BTC: Tensor = self.o_proj(y_BHTD.transpose(1, 2).flatten(2))
        return y_BTC


class SwiGLU(nn.Module):
    """A gated layer: down(silu(gate(x)) · up(x)), https://arxiv.org/abs/2002.05202."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.width, config.hidden, bias=False)
        self.up_proj = Linear(config.width, config.hidden, bias=False)
        self.down_proj = Linear(config.hidden, config.width, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        y_BTC: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTC)) * self.up_proj(x_BTC))
        return y_BTC


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight over the last axis, https://arxiv.org/abs/1910.07467.

    `weight_by_row` tells private training that `with_weight` also takes one copy of the weight for each row, whose gradients are then
    told apart by the norm's own backward.
    """

    weight_by_row = True

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.with_weight(x, self.weight)

    def with_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """The same with another weight, (C,), or (B, 1, …, C): one for each row."""
        return rms_norm(x, weight, self.eps)


class Linear(nn.Linear):
    """A matrix that `init_weights` or a loader fills, so that building a model draws no random numbers."""

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """A table of rows that `init_weights` or a loader fills."""

    def reset_parameters(self) -> None:
        pass


def as_autocast(x: Tensor) -> Tensor:
    """Under bfloat16 autocast the stream is bfloat16 from the start, or each matrix would convert its input again.

    float16 keeps a float32 stream: its largest number, 65504, is too near to what streams reach.
    """
    kind = x.device.type
    if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16:
        return x.bfloat16()
    return x
