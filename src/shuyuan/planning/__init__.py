"""What a run will need, before anything is spent: memory, time, storage, from formulas and this machine's rates.

Other rooms use `plan` and `Plan`; `measured_pace`, this machine's rates; `layout`, which reads how a model lies over devices; and the module `scaling`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .layouts import layout
    from .pace import measured_pace
    from .prediction import Plan, plan

__all__ = ["Plan", "layout", "measured_pace", "plan"]


def __getattr__(name: str) -> Any:
    """Loads the formulas, and with them numpy and the tokenizers, only when a plan is asked for."""
    if name in __all__:
        from . import layouts, pace, prediction

        return getattr({"layout": layouts, "measured_pace": pace}.get(name, prediction), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
