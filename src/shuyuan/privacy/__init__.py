"""Differential privacy: clipping, noise, sampling and accounting.

Other rooms may use `make_private` and `mechanism`, and for a training loop of their own `Clipper`, `Units`, `Noise`,
`PoissonSampler` and the module `accountant`.
"""

from . import accountant
from .clipping import Clipper, Units
from .loop import Mechanism, PrivateLoop, make_private, mechanism
from .noise import Noise
from .sampling import PoissonSampler

__all__ = [
    "Clipper",
    "Mechanism",
    "Noise",
    "PoissonSampler",
    "PrivateLoop",
    "Units",
    "accountant",
    "make_private",
    "mechanism",
]
