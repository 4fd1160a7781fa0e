"""The networks: the transformer in the Qwen3 layout, its key-value cache, networks for images and for n-grams, model folders in and out, and recurrent ones.

Other rooms may use `TransformerConfig`, `HubConfig`, `ImageConfig`, `NgramConfig`, `RnnConfig`, `config_for`, `image_config_for`, `stored_config`, `check_base`, `in_block`
and `pieces`, the safetensors layout (which load no torch), `load_network`, `load_writer`, `cache_bytes`, `save_variant`, `inner_matrices` and `open_slots` for any
family, `CompiledModel`, `pack`, `Transformer`, `Classifier`, `ImageClassifier`, `NgramClassifier`,
`Cache`, the modules `hub` (`save`, `load`, `load_folder`, `scratch`, `Network`) and `lora` (`add_lora`, `merge_lora`), and of recurrent
models, which load TensorFlow and no torch, the modules `rnn_folder`, `rnn` (`RnnModel`), `working`, `recurrent` and `keras_library`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .compiled import CompiledModel
from .config import TransformerConfig, in_block
from .folder import config_for, image_config_for, stored_config
from .hub_config import HubConfig, check_base
from .image_config import ImageConfig
from .layout import pieces
from .networks import (
    AnyNetwork,
    cache_bytes,
    inner_matrices,
    load_network,
    load_writer,
    open_slots,
    save_variant,
)
from .ngram_config import NgramConfig
from .packed import pack
from .rnn_config import RnnConfig

if TYPE_CHECKING:
    from . import hub, lora
    from .cache import Cache, Slots
    from .classifier import Classifier
    from .cnn import ImageClassifier
    from .ngrams import NgramClassifier
    from .transformer import Transformer

__all__ = [
    "AnyNetwork", "Cache", "Classifier", "CompiledModel", "HubConfig", "ImageClassifier", "ImageConfig", "NgramClassifier", "NgramConfig", "RnnConfig",
    "Slots", "Transformer", "TransformerConfig", "cache_bytes", "check_base", "config_for", "hub", "image_config_for", "in_block", "inner_matrices", "load_network", "load_writer", "lora", "open_slots", "pack",
    "pieces", "save_variant", "stored_config",
]  # fmt: skip

_HOMES = {
    "Cache": ".cache",
    "Classifier": ".classifier",
    "ImageClassifier": ".cnn",
    "NgramClassifier": ".ngrams",
    "Slots": ".cache",
    "Transformer": ".transformer",
}


def __getattr__(name: str) -> Any:
    """Loads torch only when a network is asked for: the plan needs nothing but the configuration."""
    if name in ("hub", "lora"):
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
