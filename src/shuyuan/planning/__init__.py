"""What a run will need, before anything is spent: memory, time, storage, from formulas and this machine's rates.

Other rooms use `plan` and `Plan`; `layout`, which reads how a model lies over devices; and the module `scaling`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .layouts import layout
    from .prediction import Plan, plan

__all__ = ["Plan", "layout", "plan"]


def __getattr__(name: str) -> Any:
    """Loads the formulas, and with them numpy and the tokenizers, only when a plan is asked for."""
    if name in __all__:
        from . import layouts, prediction

        return getattr(layouts if name == "layout" else prediction, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
