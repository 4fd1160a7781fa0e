"""Smaller variants of a trained model: weights rounded to 8 or 4 bits, the smallest ones left out.

Other rooms may use `Variant`, `wanted` and `compress`. What is done to weights that are released already costs no privacy.
"""

from .folder import compress
from .variant import Variant, wanted

__all__ = ["Variant", "compress", "wanted"]
