"""The table [model]: the network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .names import FAMILY_KEYS, IMAGE_FAMILIES, IMAGE_SIZES, MOST_LONGEST, OWN_SHAPE, RNN_SIZES, SIZES
from .section import Section


class Model(Section):
    """The network."""

    family: Literal["transformer", "cnn", "rnn", "ngrams"] = Field(
        "transformer",
        description="The architecture: transformer (the Qwen3 layout); cnn (reads images); rnn (recurrent, Keras on TensorFlow, extra "
        "`tensorflow`); ngrams (tells labels of texts, in seconds). Left out, texts with labels get ngrams, unless "
        "a model to start from or a transformer's own key is named.",
    )
    size: Literal["tiny", "small", "medium", "large", "textbook"] = Field(
        "small",
        description="transformer: layers x width, tiny 4x128, small 6x256, medium 8x512, large 12x768. rnn: 1x128, 1x384, 2x512, "
        "3x1024. cnn: textbook (one convolution, pooling, a hidden layer), small or medium (residual, with group norms). ngrams: 1, 4, 17 or 67 "
        "million numbers.",
    )
    layers: int | None = Field(
        None, ge=1, le=1024, description="Number of blocks, or of recurrent layers. Left out: from `size`."
    )
    width: int | None = Field(
        None,
        ge=8,
        le=65536,
        description="Width of the residual stream, or units of a recurrent layer. Left out: from `size`.",
    )
    cell: Literal["lstm", "gru", "simple"] | None = Field(
        None, description="rnn: the recurrent cell; simple is the textbook's SimpleRNN. Left out: lstm."
    )
    bidirectional: bool | None = Field(
        None, description="rnn that tells labels: read the text from both ends. Left out: false."
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of what layers say that is left out at random in training. rnn: left out, 0. Of a model to start from that "
        "transformers computes: left out, what its folder says; drawing it takes a fifth of a step on a CPU.",
    )
    predict: Literal["every", "last"] | None = Field(
        None,
        description="rnn: predict the next token at every position, or, as in the textbook, only the one after the window. "
        "Left out: every.",
    )
    longest: int | None = Field(
        None,
        ge=1,
        le=MOST_LONGEST,
        description="ngrams: tokens of the longest n-gram. Left out: 6 of bytes, 4 of characters, 2 of a bpe or given tokenizer.",
    )
    heads: int | None = Field(
        None, ge=1, le=65536, description="Attention heads. Left out: width / 64, at least 2."
    )
    kv_heads: int | None = Field(
        None, ge=1, le=65536, description="Key-value heads (grouped-query attention). Left out: as `heads`."
    )
    hidden: int | None = Field(
        None,
        ge=8,
        le=2**20,
        description="Width of the SwiGLU layer. Left out: 8/3 of width, to a multiple of 32.",
    )
    context: int = Field(
        256,
        ge=8,
        le=1_048_576,
        description="Tokens that the model sees at once. Left out for ngrams: 1024.",
    )
    tied: bool | None = Field(
        None, description="Embedding and output head share their weights. Left out: true."
    )
    from_: str | None = Field(
        None,
        alias="from",
        description="Start from these weights: a Hugging Face folder, another run, sealed or not, or hf:org/name; for an rnn a "
        ".keras file or another run. Its tokenizer is used too, unless [tokenizer] says otherwise; a .keras file has none.",
    )

    @model_validator(mode="after")
    def _of_the_family(self) -> Model:
        """Sizes and keys that the family has."""
        sizes = IMAGE_SIZES if self.family in IMAGE_FAMILIES else tuple(SIZES)
        if self.size not in sizes:
            raise ValueError(
                f'size: "{self.size}" is no size of the family {self.family}, which has {", ".join(sizes)}'
            )
        if self.family in IMAGE_FAMILIES and self.context != Model.model_fields["context"].default:
            raise ValueError(f"context: is set, and the family {self.family} has no such thing")
        for family, keys in FAMILY_KEYS.items():
            for key in keys if self.family not in family else ():
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key}: is set, and the family {self.family} has no such thing; it is for {' and '.join(family)}"
                    )
        if self.family == "transformer" and self.dropout is not None and self.from_ is None:
            raise ValueError("dropout: the transformer of this house has none; a model to start from may")
        if self.from_ is not None:
            for key in OWN_SHAPE.get(self.family, ()):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key}: is what the model to start from says, so it cannot be set beside model.from"
                    )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Model:
        if self.family != "transformer":
            return self
        shape = self.shape()
        if shape["width"] % shape["heads"]:
            raise ValueError(f"heads: {shape['heads']} does not divide width {shape['width']}")
        if shape["heads"] % shape["kv_heads"]:
            raise ValueError(f"kv_heads: {shape['kv_heads']} does not divide heads {shape['heads']}")
        if shape["width"] // shape["heads"] % 2:
            raise ValueError(f"heads: width / heads must be even, not {shape['width'] // shape['heads']}")
        return self

    def shape(self) -> dict[str, int]:
        """Layers and width, and of a transformer heads, kv_heads and hidden, with every gap filled from `size`."""
        layers, width = (RNN_SIZES if self.family == "rnn" else SIZES)[self.size]
        layers, width = self.layers or layers, self.width or width
        if self.family == "rnn":
            return {"layers": layers, "width": width}
        heads = self.heads or max(2, width // 64)
        hidden = self.hidden or max(32, round(width * 8 / 3 / 32) * 32)
        return {
            "layers": layers,
            "width": width,
            "heads": heads,
            "kv_heads": self.kv_heads or heads,
            "hidden": hidden,
        }
