"""Clipping: each unit's gradient is cut to one norm over all parameters, with one backward pass.

Other files of the room may use `Clipper` and `Units`.
"""

from .clipper import Clipped, Clipper
from .units import Units

__all__ = ["Clipped", "Clipper", "Units"]
