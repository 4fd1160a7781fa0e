"""The shape of a classifier that reads n-grams, and its spelling in a `config.json`. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..recipe import MOST_LONGEST, NGRAM_SIZES, Model
from .config import (
    LARGEST,
    TransformerConfig,
    end_id_in,
    label_names,
    label_table,
    problem_type,
    tells_each,
    whole_numbers,
)

NGRAM_TYPE = "shuyuan-ngrams"  # `model_type` of its config.json, which no other program knows
NARROWEST, WIDEST = 8, 64
LONGEST = 6  # where a recipe was made without `recipe.check`


@dataclass(frozen=True)
class NgramConfig(TransformerConfig):
    """A table of n-grams and a head. To the formulas of costs it is a transformer of no layers.

    Args:
        rows: of the table; the first is of no n-gram.
        longest: tokens of the longest n-gram.
    """

    rows: int = 2**16
    longest: int = LONGEST

    @classmethod
    def from_recipe(
        cls, model: Model, vocab_size: int, end_id: int, labels: Sequence[str] = ()
    ) -> NgramConfig:
        """The classifier that a recipe's [model] table asks for: few labels have a narrow table of many rows."""
        width = min(max(NARROWEST, 2 ** math.ceil(math.log2(max(1, len(labels))))), WIDEST)
        return cls.of(
            vocab_size=vocab_size,
            width=width,
            context=model.context,
            end_id=end_id,
            labels=tuple(labels),
            rows=NGRAM_SIZES[model.size] // width,
            longest=model.longest or LONGEST,
        )

    @classmethod
    def of(cls, *, width: int, **shape: Any) -> NgramConfig:
        """The configuration without what it has none of: layers, heads, hidden.

        Args:
            width: of a row.
            shape: the other fields.
        """
        none: dict[str, Any] = {
            "layers": 0,
            "heads": 1,
            "kv_heads": 1,
            "head_dim": 0,
            "hidden": 0,
            "tied": False,
        }
        return cls(width=width, **none, **shape)

    @property
    def grams(self) -> int:
        """N-grams of a text as long as the context, at most."""
        return self.longest * self.context

    def kept_bytes(self) -> int:
        """Bytes of a text that a training step holds: whole numbers of 64 bits, made, drawn from, looked up and sorted."""
        return 8 * 8 * self.grams

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter."""
        labels = len(self.labels)
        return {
            "table.weight": (self.rows, self.width),
            "score.weight": (labels, self.width),
            "score.bias": (labels,),
        }

    @property
    def parameters(self) -> int:
        """Exact number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def to_hub(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return {
            "architectures": ["NgramClassifier"],
            "model_type": NGRAM_TYPE,
            "dtype": "float32",
            "vocab_size": self.vocab_size,
            "hidden_size": self.width,
            "rows": self.rows,
            "longest": self.longest,
            "max_position_embeddings": self.context,
            "eos_token_id": self.end_id,
            **label_table(self.labels),
            **problem_type(self.multi_label),
        }

    @classmethod
    def from_hub(cls, table: Mapping[str, Any], *, where: str = "config.json") -> NgramConfig:
        """Reads the content of a `config.json` of this type.

        Raises:
            ShuyuanError: a size is missing or absurd.
        """
        stored = {"vocab_size": LARGEST, "hidden_size": 2**16, "max_position_embeddings": 2**20}
        sizes = whole_numbers(table, where, **stored, rows=2**30, longest=MOST_LONGEST)
        return cls.of(
            width=sizes.pop("hidden_size"),
            context=sizes.pop("max_position_embeddings"),
            end_id=end_id_in(table, sizes["vocab_size"], where),
            labels=label_names(table, where),
            multi_label=tells_each(table),
            **sizes,
        )
