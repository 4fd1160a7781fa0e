"""What a Hugging Face `config.json` of another architecture says about its model: enough to plan with, without loading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import RecipeError, ShuyuanError
from ..tasks.base import Output
from .config import MOST_LAYERS, TransformerConfig, end_id_in, label_names, tells_each, whole_number

Shape = tuple[int, ...]
# How architectures spell the same thing, the likeliest first.
SPELLINGS = {
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "num_key_value_heads": ("num_key_value_heads", "multi_query_group_num"),
    "intermediate_size": ("intermediate_size", "ffn_hidden_size", "ffn_dim", "hidden_dim", "n_inner"),
    "max_position_embeddings": (
        "max_position_embeddings",
        "n_positions",
        "seq_length",
        "max_sequence_length",
    ),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
}


ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attn_pdrop", "attention_dropout")
DROPOUT = (
    *ATTENTION_DROPOUT, "hidden_dropout_prob", "hidden_dropout", "resid_pdrop", "embd_pdrop", "summary_first_dropout", "dropout",
    "activation_dropout", "classifier_dropout", "seq_classif_dropout", "qa_dropout", "embedding_dropout", "feat_proj_dropout",
)  # fmt: skip


# Architectures whose matrices transformers keeps inputs first, in layers of its own kind (Conv1D).
TRANSPOSED = ("gpt2", "openai-gpt")


@dataclass(frozen=True)
class HubConfig(TransformerConfig):
    """A model that transformers computes. Its shape is told as far as the plan needs it.

    Attributes:
        table: the whole config.json.
        tensors: name and shape of every stored parameter; empty before the weights are there.
        spans: whether the head tells where an answer begins and ends.
        dropout: share of what layers say that is left out in training; None: as the table says.
    """

    table: Mapping[str, Any] = field(default_factory=dict, hash=False)
    tensors: Mapping[str, Shape] = field(default_factory=dict, hash=False)
    spans: bool = False
    dropout: float | None = None

    @property
    def output(self) -> Output:
        return "spans" if self.spans else super().output

    @property
    def head(self) -> tuple[int, int]:
        return (self.context, 2) if self.spans else super().head

    @property
    def model_type(self) -> str:
        """As transformers calls the architecture: "bert", "gpt2", "llama"."""
        return str(self.table["model_type"])

    @property
    def drops_attention(self) -> bool:
        """Whether attention's weights are dropped out in training; then they are all kept, unless a GPU computes them."""
        if self.dropout is not None:
            return self.dropout > 0
        return any(self.table.get(name) for name in ATTENTION_DROPOUT)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Name and shape of every parameter: exact where the weights are there, else as if the layout were Qwen3's."""
        return dict(self.tensors) or super().shapes

    @property
    def parameters(self) -> int:
        """Number of parameters, without a new head: exact where the weights are there."""
        if not self.tensors:
            return super().parameters
        return sum(_product(shape) for shape in self.tensors.values())

    @classmethod
    def from_hub(cls, table: Mapping[str, Any], *, where: str = "config.json") -> HubConfig:
        """Reads the content of a `config.json` of any text model that names its width, layers and heads.

        Raises:
            ShuyuanError: it names no architecture, or the sizes are missing or absurd.
        """
        kind = table.get("model_type")
        if not isinstance(kind, str) or not kind:
            raise ShuyuanError(
                "models.no-architecture",
                "config.json does not say which architecture the model is of (`model_type`).",
                where=where,
                mend="Give a model folder as transformers' save_pretrained writes it.",
            )
        named = {
            key: next((table[name] for name in names if table.get(name) is not None), None)
            for key, names in SPELLINGS.items()
        }
        width = whole_number(named, "hidden_size", where)
        heads = whole_number(named, "num_attention_heads", where)
        vocab_size = whole_number(named, "vocab_size", where)
        is_classifier, points = (
            any(str(name).endswith(ending) for name in _architectures(table))
            for ending in ("ForSequenceClassification", "ForQuestionAnswering")
        )
        return cls(
            vocab_size=vocab_size,
            layers=whole_number(named, "num_hidden_layers", where, most=MOST_LAYERS),
            width=width,
            heads=heads,
            kv_heads=whole_number(named, "num_key_value_heads", where, default=heads),
            head_dim=whole_number(table, "head_dim", where, default=max(1, width // heads)),
            hidden=whole_number(named, "intermediate_size", where, default=4 * width),
            context=whole_number(named, "max_position_embeddings", where, default=2048),
            end_id=end_id_in(table, vocab_size, where),
            labels=label_names(table, where) if is_classifier else (),
            multi_label=is_classifier and tells_each(table),
            table=table,
            spans=points,
        )


def check_base(config: object) -> None:
    """Refuses a model whose matrices LoRA cannot keep as codes, where its configuration tells so.

    Args:
        config: of any family.

    Raises:
        RecipeError: it is of such an architecture.
    """
    if isinstance(config, HubConfig) and config.model_type in TRANSPOSED:
        raise other_matrices("Conv1D")


def other_matrices(kind: str) -> RecipeError:
    """The error for a base whose blocks hold matrices of another kind than those that can be kept as codes."""
    return RecipeError(
        "models.no-quantised-base",
        f"The model to start from has matrices of the kind {kind} inside its blocks, and only those of nn.Linear can be kept as codes.",
        where="train.lora.base",
        mend="Leave the key out, so that the base stays floats, or start from a model of another architecture.",
    )


def _architectures(table: Mapping[str, Any]) -> list[Any]:
    names = table.get("architectures")
    return names if isinstance(names, list) else []


def _product(shape: Shape) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
