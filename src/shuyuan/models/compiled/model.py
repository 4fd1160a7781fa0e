"""The transformer as forward.c computes it: its weights as they are stored, side by side. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...vault import Store
from ..config import HEAD, TransformerConfig
from ..folder import read_config
from ..packed import Arrays as Parts
from ..packed import Kind, floats
from ..stored import EMBEDDING, read_codes
from .build import library
from .selftest import check
from .structures import Arrays, Layer, Matrix

Stored = tuple[str, Kind | None, Parts]
MATRICES = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
NORMS = {
    "input_norm": "input_layernorm", "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm",
    "middle_norm": "post_attention_layernorm",
}  # fmt: skip


class CompiledModel:
    """A transformer that continues text, and does nothing else.

    Args:
        config: its shape.
        weights: every parameter: name, how it is stored where it has fewer bytes, and what, as `stored.read_codes` has them.
        half: whether matrices that are stored as floats are rounded to bfloat16, and what sequences leave behind is kept in it.

    Raises:
        NotCompiledError: the function cannot be had here.
    """

    def __init__(self, config: TransformerConfig, weights: Iterable[Stored], *, half: bool) -> None:
        self.config, self.half = config, half
        self.library = library()
        check(self.library)
        self._arrays = Arrays()
        self.layers = (Layer * config.layers)()
        places = {
            f"model.layers.{layer}.{name}.weight": (self.layers[layer], field)
            for layer in range(config.layers)
            for field, name in (MATRICES | NORMS).items()
        }
        found: dict[str, Any] = {}
        for name, kind, parts in weights:
            value = self._ready(kind, parts)
            if name in places:
                setattr(*places[name], value)
            else:
                found[name] = value
        self.embedding: Matrix = found[EMBEDDING]
        self.head: Matrix = found.get(HEAD, self.embedding)
        self.last_norm: int = found["model.norm.weight"]
        cos, sin = _rotary_tables(config)
        self.cos, self.sin = self._arrays.keep(cos), self._arrays.keep(sin)

    @classmethod
    def load(cls, store: Store, name: str, *, half: bool) -> CompiledModel | None:
        """The model of a folder; None where it is of another kind than this one computes.

        Args:
            store: where the folder is.
            name: the folder's name in it.
            half: as above.

        Raises:
            ShuyuanError: a file is missing or damaged.
            NotCompiledError: as above.
        """
        config = read_config(store, name)
        if type(config) is not TransformerConfig or config.output != "tokens":
            return None
        return cls(config, read_codes(store, name, config), half=half)

    @property
    def context(self) -> int:
        """Tokens that the model sees at once."""
        return self.config.context

    @property
    def bytes(self) -> int:
        """Of its weights, in memory."""
        return self._arrays.bytes

    def _ready(self, kind: Kind | None, parts: Parts) -> Matrix | int:
        """A matrix, or the address of a norm's weights."""
        if kind is not None and kind.bits < 32 and len(kind.shape) == 2:
            return self._arrays.codes(kind.bits, parts)
        weight = parts[""] if kind is None else floats(kind, parts)
        return self._arrays.keep(weight) if weight.ndim == 1 else self._arrays.floats(weight, half=self.half)


def _rotary_tables(config: TransformerConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """As `functions.rotary_tables`, whose arithmetic in float32 it repeats."""
    pairs = np.arange(0, config.head_dim, 2, dtype=np.float32)
    wavelengths = np.float32(1) / np.float32(config.rope_theta) ** (pairs / np.float32(config.head_dim))
    angles = np.arange(config.context, dtype=np.float32)[:, None] * wavelengths
    return np.cos(angles), np.sin(angles)
