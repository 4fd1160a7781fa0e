"""Differential privacy: clipping, noise, sampling, accounting and the ledger.

Other rooms may use `make_private` in a loop of one's own; `Mechanism`, `mechanism` and the module `accountant`, which load
no torch; and for a training loop `Clipper`, `Contributions`, `Sums`, `Units`, `Noise`, `Total`, `Ranks`, `PoissonSampler`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import accountant
from .mechanism import Mechanism, mechanism, mechanism_in
from .sampling import PoissonSampler
from .stream import derive

if TYPE_CHECKING:
    from .clipping import Clipped, Clipper, Contributions, Sums, Units
    from .loop import PrivateLoop, make_private
    from .noise import Noise, Total
    from .ranks import Ranks

__all__ = [
    "Clipped",
    "Clipper",
    "Contributions",
    "Mechanism",
    "Noise",
    "PoissonSampler",
    "PrivateLoop",
    "Ranks",
    "Sums",
    "Total",
    "Units",
    "accountant",
    "derive",
    "make_private",
    "mechanism",
    "mechanism_in",
]

_HOMES = {
    "Clipped": ".clipping",
    "Clipper": ".clipping",
    "Contributions": ".clipping",
    "Sums": ".clipping",
    "Units": ".clipping",
    "PrivateLoop": ".loop",
    "make_private": ".loop",
    "Noise": ".noise",
    "Total": ".noise",
    "Ranks": ".ranks",
}


def __getattr__(name: str) -> Any:
    """Loads torch only when gradients or noise are asked for: the plan needs nothing but the accountant."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
