"""The networks: the transformer in the Qwen3 layout, its key-value cache, and Hugging Face folders in and out.

Other rooms may use `TransformerConfig` and `config_for` (which load no torch), `Transformer`, `Cache`, `Slots`, and the module `hub`
(`save`, `load`, `load_folder`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import TransformerConfig
from .folder import config_for

if TYPE_CHECKING:
    from . import hub
    from .cache import Cache, Slots
    from .transformer import Transformer

__all__ = ["Cache", "Slots", "Transformer", "TransformerConfig", "config_for", "hub"]

_HOMES = {"Cache": ".cache", "Slots": ".cache", "Transformer": ".transformer"}


def __getattr__(name: str) -> Any:
    """Loads torch only when a network is asked for: the plan needs nothing but the configuration."""
    if name == "hub":
        return import_module(".hub", __name__)
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
