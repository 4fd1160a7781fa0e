"""Clipping: each unit's gradient is cut to one norm over all parameters, with one backward pass.

Other files of the room may use `Clipper`, `Sums`, `Contributions`, `Units` and the error `no_backward`.
"""

from .clipper import Clipped, Clipper, Sums, no_backward
from .contributions import Contributions
from .units import Units

__all__ = ["Clipped", "Clipper", "Contributions", "Sums", "Units", "no_backward"]
