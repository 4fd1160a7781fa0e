"""The networks: the transformer in the Qwen3 layout, its key-value cache, networks for images, and model folders in and out.

Other rooms may use `TransformerConfig`, `HubConfig`, `ImageConfig`, `config_for`, `image_config_for`, `in_block` and `pieces`, the safetensors layout (which load no torch),
`Transformer`, `Classifier`, `ImageClassifier`, `Cache`, `open_slots`, and the modules `hub` (`save`, `load`, `load_folder`, `scratch`, `Network`) and
`lora` (`add_lora`, `merge_lora`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import TransformerConfig, in_block
from .folder import config_for, image_config_for
from .hub_config import HubConfig
from .image_config import ImageConfig
from .layout import pieces

if TYPE_CHECKING:
    from . import hub, lora
    from .cache import Cache, Slots, open_slots
    from .classifier import Classifier
    from .cnn import ImageClassifier
    from .transformer import Transformer

__all__ = [
    "Cache", "Classifier", "HubConfig", "ImageClassifier", "ImageConfig", "Slots", "Transformer", "TransformerConfig", "config_for", "hub",
    "image_config_for", "in_block", "lora", "open_slots", "pieces",
]  # fmt: skip

_HOMES = {
    "Cache": ".cache",
    "Classifier": ".classifier",
    "ImageClassifier": ".cnn",
    "Slots": ".cache",
    "Transformer": ".transformer",
    "open_slots": ".cache",
}


def __getattr__(name: str) -> Any:
    """Loads torch only when a network is asked for: the plan needs nothing but the configuration."""
    if name in ("hub", "lora"):
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
