"""The shape of a transformer, and its spelling in a Hugging Face `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ShuyuanError
from ..recipe import Model

ARCHITECTURE = "Qwen3ForCausalLM"
# Far above any model that this path can hold: a config that asks for more is a lie or a mistake, and is refused
# before anything is allocated for it.
LARGEST = 2**24
MOST_LAYERS = 1024
LARGEST_HEAD = 256


@dataclass(frozen=True)
class TransformerConfig:
    """The shape of a transformer in the Qwen3 layout.

    Args:
        vocab_size: entries of the vocabulary.
        layers: number of blocks.
        width: width of the residual stream.
        heads: query heads.
        kv_heads: key-value heads; divides `heads`.
        head_dim: width of one head, even.
        hidden: width of the SwiGLU layer.
        context: tokens that the model sees at once.
        tied: whether the output head is the embedding.
        rope_theta: base of the rotary wavelengths.
        norm_eps: added to the mean square in every RMSNorm.
        end_id: token that closes every record and opens generation; None where a folder names none.
    """

    vocab_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    context: int
    tied: bool = True
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    end_id: int | None = None

    @classmethod
    def from_recipe(cls, model: Model, vocab_size: int, end_id: int) -> TransformerConfig:
        """The shape that a recipe's [model] table asks for, with the vocabulary of the run's tokenizer."""
        shape = model.shape()
        return cls(
            vocab_size=vocab_size,
            head_dim=shape["width"] // shape["heads"],
            context=model.context,
            tied=model.tied,
            end_id=end_id,
            **shape,
        )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter, each once: a tied head is not listed."""
        attention, kv, width = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.width
        block = {
            "input_layernorm": (width,),
            "self_attn.q_proj": (attention, width),
            "self_attn.k_proj": (kv, width),
            "self_attn.v_proj": (kv, width),
            "self_attn.o_proj": (width, attention),
            "self_attn.q_norm": (self.head_dim,),
            "self_attn.k_norm": (self.head_dim,),
            "post_attention_layernorm": (width,),
            "mlp.gate_proj": (self.hidden, width),
            "mlp.up_proj": (self.hidden, width),
            "mlp.down_proj": (width, self.hidden),
        }
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, width)}
        for layer in range(self.layers):
            shapes.update({f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()})
        shapes["model.norm.weight"] = (width,)
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocab_size, width)
        return shapes

    @property
    def parameters(self) -> int:
        """Exact number of parameters, a tied head counted once."""
        attention = 2 * self.width * self.head_dim * (self.heads + self.kv_heads)
        block = attention + 3 * self.width * self.hidden + 2 * self.width + 2 * self.head_dim
        heads = 1 if self.tied else 2
        return heads * self.vocab_size * self.width + self.layers * block + self.width

    def to_hub(self) -> dict[str, Any]:
        """The content of `config.json`; the rotary base stands under its name before and since transformers 5."""
        return {
            "architectures": [ARCHITECTURE],
            "model_type": "qwen3",
            "dtype": "float32",
            "vocab_size": self.vocab_size,
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.hidden,
            "hidden_act": "silu",
            "max_position_embeddings": self.context,
            "tie_word_embeddings": self.tied,
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "rms_norm_eps": self.norm_eps,
            "initializer_range": 0.02,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "use_cache": True,
            "use_sliding_window": False,
            "sliding_window": None,
            "max_window_layers": self.layers,
            "layer_types": ["full_attention"] * self.layers,
            "bos_token_id": self.end_id,
            "eos_token_id": self.end_id,
            "pad_token_id": None,  # transformers would stop training the padding token's embedding
        }

    @classmethod
    def from_hub(cls, table: Mapping[str, Any], *, where: str = "config.json") -> TransformerConfig:
        """Reads the content of a `config.json`.

        Args:
            table: the parsed file.
            where: the file's name, for errors.

        Raises:
            ShuyuanError: another architecture, a variant of Qwen3 that this path does not compute, or an absurd size.
        """
        _check_kind(table, where)
        width = _whole(table, "hidden_size", where)
        heads = _whole(table, "num_attention_heads", where)
        kv_heads = _whole(table, "num_key_value_heads", where, default=heads)
        head_dim = _whole(table, "head_dim", where, default=128, most=LARGEST_HEAD)  # Qwen3's own default
        vocab_size = _whole(table, "vocab_size", where)
        if heads % kv_heads:
            raise _bad("num_key_value_heads", kv_heads, f"it must divide num_attention_heads, {heads}", where)
        if head_dim % 2:
            raise _bad("head_dim", head_dim, "it must be even", where)
        return cls(
            vocab_size=vocab_size,
            layers=_whole(table, "num_hidden_layers", where, most=MOST_LAYERS),
            width=width,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            hidden=_whole(table, "intermediate_size", where),
            context=_whole(table, "max_position_embeddings", where, most=2**20),
            tied=table.get("tie_word_embeddings", False) is True,
            rope_theta=_rope_theta(table, where),
            norm_eps=_number(table, "rms_norm_eps", where, default=1e-6),
            end_id=_end_id(table, vocab_size, where),
        )


def _check_kind(table: Mapping[str, Any], where: str) -> None:
    """Refuses what the native transformer does not compute."""
    kind = table.get("architectures") or [table.get("model_type")]
    if kind not in ([ARCHITECTURE], ["qwen3"]) or table.get("model_type", "qwen3") != "qwen3":
        named = ", ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
        raise ShuyuanError(
            "models.other-architecture",
            f"The model is of the architecture {named[:80]}, which this version does not load.",
            where=where,
            mend=f"Use a folder of the architecture {ARCHITECTURE} (model_type qwen3).",
        )
    refused = {"attention_bias": False, "hidden_act": "silu", "use_sliding_window": False}
    for key, only in refused.items():
        if table.get(key, only) != only:
            raise _bad(key, table[key], f"only {only} is supported", where)
    kinds = table.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise _bad("layer_types", kinds, "only full_attention is supported", where)


def _rope_theta(table: Mapping[str, Any], where: str) -> float:
    """The rotary base, from either spelling; scaled rotary positions are refused."""
    rope = table.get("rope_parameters") or table.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
    if kind != "default":
        raise _bad("rope_parameters", rope, "only the rope_type default is supported", where)
    return _number({**table, **rope}, "rope_theta", where, default=10_000.0)


def _end_id(table: Mapping[str, Any], vocab_size: int, where: str) -> int | None:
    """The end token; the first where there are several."""
    end = table.get("eos_token_id")
    end = end[0] if isinstance(end, list) and end else end
    if end is None:
        return None
    if not isinstance(end, int) or isinstance(end, bool) or not 0 <= end < vocab_size:
        raise _bad("eos_token_id", end, f"it must be a token below vocab_size, {vocab_size}", where)
    return end


def _whole(
    table: Mapping[str, Any], key: str, where: str, *, default: int | None = None, most: int = LARGEST
) -> int:
    value = default if table.get(key) is None else table[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise _bad(key, value, f"it must be a whole number from 1 to {most}", where)
    return value


def _number(table: Mapping[str, Any], key: str, where: str, *, default: float) -> float:
    value = table.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e12:
        raise _bad(key, value, "it must be a positive number", where)
    return float(value)


def _bad(key: str, value: object, why: str, where: str) -> ShuyuanError:
    return ShuyuanError(
        "models.bad-config",
        f"`{key}` = {str(value)[:80]} is refused: {why}.",
        where=where,
        mend="Check that the folder is a whole Qwen3 model, as transformers writes it.",
    )
