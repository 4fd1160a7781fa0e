"""The shape of a transformer, and its spelling in a Hugging Face `config.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ShuyuanError
from ..recipe import Model
from ..tasks.base import Output

ARCHITECTURE = "Qwen3ForCausalLM"
CLASSIFIER = "Qwen3ForSequenceClassification"
MULTI_LABEL = "multi_label_classification"  # as transformers calls it
HEAD, LABEL_HEAD = "lm_head.weight", "score.weight"
# Far above any model that this path can hold: a config that asks for more is a lie or a mistake, and is refused
# before anything is allocated for it.
LARGEST = 2**24
MOST_LAYERS = 1024
LARGEST_HEAD = 256
MOST_LABELS = 2**16
_IN_BLOCK = re.compile(r"(^|\.)(layers?|h|blocks?)\.\d+\.")


def in_block(name: str) -> bool:
    """Whether a parameter or module stands inside a block, by the names that the architectures give their blocks.

    Args:
        name: as the model has it, with dots.
    """
    return _IN_BLOCK.search(name) is not None


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
        labels: names of the classes that the head tells apart; without any, the head predicts tokens.
        multi_label: whether each of them is told by itself, so that a text may have any number.
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
    labels: tuple[str, ...] = ()
    multi_label: bool = False

    @classmethod
    def from_recipe(
        cls, model: Model, vocab_size: int, end_id: int, labels: Sequence[str] = ()
    ) -> TransformerConfig:
        """The shape that a recipe's [model] table asks for, with the vocabulary of the run's tokenizer."""
        shape = model.shape()
        return cls(
            vocab_size=vocab_size,
            layers=shape["layers"],
            width=shape["width"],
            heads=shape["heads"],
            kv_heads=shape["kv_heads"],
            head_dim=shape["width"] // shape["heads"],
            hidden=shape["hidden"],
            context=model.context,
            tied=model.tied is not False and not labels,
            end_id=end_id,
            labels=tuple(labels),
        )

    @property
    def output(self) -> Output:
        """What the head gives."""
        return "labels" if self.labels else "tokens"

    @property
    def head(self) -> tuple[int, int]:
        """(predictions a sequence, logits a prediction): one for each token, or one for the whole."""
        return (1, len(self.labels)) if self.labels else (self.context, self.vocab_size)

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
        if self.labels:
            shapes[LABEL_HEAD] = (len(self.labels), width)
        elif not self.tied:
            shapes[HEAD] = (self.vocab_size, width)
        return shapes

    @property
    def parameters(self) -> int:
        """Exact number of parameters, a tied head counted once."""
        attention = 2 * self.width * self.head_dim * (self.heads + self.kv_heads)
        block = attention + 3 * self.width * self.hidden + 2 * self.width + 2 * self.head_dim
        rows = self.vocab_size + (len(self.labels) if self.labels else 0 if self.tied else self.vocab_size)
        return rows * self.width + self.layers * block + self.width

    def to_hub(self) -> dict[str, Any]:
        """The content of `config.json`; the rotary base stands under its name before and since transformers 5."""
        return {
            "architectures": [CLASSIFIER if self.labels else ARCHITECTURE],
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
            **self._label_table(),
        }

    def _label_table(self) -> dict[str, Any]:
        if not self.labels:
            return {"pad_token_id": None}  # transformers would stop training the padding token's embedding
        # A batch needs something to fill rows up with, and transformers reads the class at the last token that is not it.
        return {"pad_token_id": self.end_id, **label_table(self.labels), **problem_type(self.multi_label)}

    @classmethod
    def from_hub(cls, table: Mapping[str, Any], *, where: str = "config.json") -> TransformerConfig:
        """Reads the content of a `config.json`.

        Args:
            table: the parsed file.
            where: the file's name, for errors.

        Raises:
            ShuyuanError: another architecture, a variant of Qwen3 that this path does not compute, or an absurd size.
        """
        _check_variant(table, where)
        width = whole_number(table, "hidden_size", where)
        heads = whole_number(table, "num_attention_heads", where)
        kv_heads = whole_number(table, "num_key_value_heads", where, default=heads)
        head_dim = whole_number(
            table, "head_dim", where, default=128, most=LARGEST_HEAD
        )  # Qwen3's own default
        vocab_size = whole_number(table, "vocab_size", where)
        labels = label_names(table, where) if table.get("architectures") == [CLASSIFIER] else ()
        if heads % kv_heads:
            raise bad_config(
                "num_key_value_heads", kv_heads, f"it must divide num_attention_heads, {heads}", where
            )
        if head_dim % 2:
            raise bad_config("head_dim", head_dim, "it must be even", where)
        return cls(
            vocab_size=vocab_size,
            layers=whole_number(table, "num_hidden_layers", where, most=MOST_LAYERS),
            width=width,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            hidden=whole_number(table, "intermediate_size", where),
            context=whole_number(table, "max_position_embeddings", where, most=2**20),
            tied=table.get("tie_word_embeddings", False) is True and not labels,
            rope_theta=_rope_theta(table, where),
            norm_eps=_number(table, "rms_norm_eps", where, default=1e-6),
            end_id=end_id_in(table, vocab_size, where),
            labels=labels,
            multi_label=bool(labels) and tells_each(table),
        )


def is_native(table: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is of the architecture that Shuyuan computes itself."""
    kind = table.get("architectures") or [table.get("model_type")]
    known = kind in ([ARCHITECTURE], [CLASSIFIER], ["qwen3"])
    return known and table.get("model_type", "qwen3") == "qwen3"


def label_table(labels: Sequence[str]) -> dict[str, Any]:
    """The names of a classifier's classes, as a `config.json` has them."""
    return {
        "id2label": {str(number): name for number, name in enumerate(labels)},
        "label2id": {name: number for number, name in enumerate(labels)},
    }


def problem_type(multi_label: bool) -> dict[str, str]:
    """What tells transformers that each label is told by itself; nothing of other heads."""
    return {"problem_type": MULTI_LABEL} if multi_label else {}


def tells_each(table: Mapping[str, Any]) -> bool:
    """Whether a `config.json` says that each label is told by itself."""
    return table.get("problem_type") == MULTI_LABEL


def label_names(table: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The names of a classifier's classes in order, from `id2label`.

    Args:
        table: content of config.json.
        where: the file, for errors.

    Raises:
        ShuyuanError: it does not name them all, or more than `MOST_LABELS`.
    """
    names = table.get("id2label")
    sound = isinstance(names, dict) and 0 < len(names) <= MOST_LABELS
    found = [names.get(str(number)) for number in range(len(names))] if sound and names else []
    if not found or not all(isinstance(name, str) for name in found):
        raise bad_config("id2label", names, 'it must name the classes "0", "1", …', where)
    return tuple(map(str, found))


def _check_variant(table: Mapping[str, Any], where: str) -> None:
    """Refuses what the native transformer does not compute: other architectures, and variants of its own."""
    if not is_native(table):
        kind = table.get("architectures") or [table.get("model_type")]
        named = ", ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
        raise ShuyuanError(
            "models.other-architecture",
            f"The model is of the architecture {named[:80]}, which is not computed here.",
            where=where,
            mend=f"Use a folder of the architecture {ARCHITECTURE} (model_type qwen3).",
        )
    refused = {"attention_bias": False, "hidden_act": "silu", "use_sliding_window": False}
    for key, only in refused.items():
        if table.get(key, only) != only:
            raise bad_config(key, table[key], f"only {only} is supported", where)
    kinds = table.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise bad_config("layer_types", kinds, "only full_attention is supported", where)


def _rope_theta(table: Mapping[str, Any], where: str) -> float:
    """The rotary base, from either spelling; scaled rotary positions are refused."""
    rope = table.get("rope_parameters") or table.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
    if kind != "default":
        raise bad_config("rope_parameters", rope, "only the rope_type default is supported", where)
    return _number({**table, **rope}, "rope_theta", where, default=10_000.0)


def end_id_in(table: Mapping[str, Any], vocab_size: int, where: str) -> int | None:
    """The end token of a `config.json`; the first where there are several.

    Args:
        table: content of config.json.
        vocab_size: ids lie below it.
        where: the file, for errors.

    Returns:
        None where it names none.

    Raises:
        ShuyuanError: it is no token of the vocabulary.
    """
    end = table.get("eos_token_id")
    end = end[0] if isinstance(end, list) and end else end
    if end is None:
        return None
    if not isinstance(end, int) or isinstance(end, bool) or not 0 <= end < vocab_size:
        raise bad_config("eos_token_id", end, f"it must be a token below vocab_size, {vocab_size}", where)
    return end


def whole_number(
    table: Mapping[str, Any], key: str, where: str, *, default: int | None = None, most: int = LARGEST
) -> int:
    """A size in a `config.json`, refused where it is missing without a default, or absurd.

    Args:
        table: content of config.json.
        key: of the size.
        where: the file, for errors.
        default: where the key is missing. Default: there must be one.
        most: the largest that is no absurdity.

    Raises:
        ShuyuanError: it is refused.
    """
    value = default if table.get(key) is None else table[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise bad_config(key, value, f"it must be a whole number from 1 to {most}", where)
    return value


def whole_numbers(table: Mapping[str, Any], where: str, **most: int) -> dict[str, int]:
    """Sizes in a `config.json` by their keys, each at most so large.

    Args:
        table: content of config.json.
        where: the file, for errors.
        most: key to the largest size that is no absurdity.

    Raises:
        ShuyuanError: one is missing, or absurd.
    """
    return {key: whole_number(table, key, where, most=limit) for key, limit in most.items()}


def _number(table: Mapping[str, Any], key: str, where: str, *, default: float) -> float:
    value = table.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e12:
        raise bad_config(key, value, "it must be a positive number", where)
    return float(value)


def bad_config(key: str, value: object, why: str, where: str) -> ShuyuanError:
    """The error of a config.json whose value cannot be.

    Args:
        key: that it stands at.
        value: what stands there.
        why: goes on from the colon.
        where: the file.
    """
    return ShuyuanError(
        "models.bad-config",
        f"`{key}` = {str(value)[:80]} is refused: {why}.",
        where=where,
        mend="Check that the folder is a whole model, as transformers or Shuyuan wrote it.",
    )
