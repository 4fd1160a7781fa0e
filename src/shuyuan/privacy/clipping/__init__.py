"""Clipping: each unit's gradient is cut to one norm over all parameters, with one backward pass.

Other files of the room may use `Clipper`, `Units` and the error `no_backward`.
"""

from .clipper import Clipped, Clipper, no_backward
from .units import Units

__all__ = ["Clipped", "Clipper", "Units", "no_backward"]
