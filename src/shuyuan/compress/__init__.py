"""Smaller variants of a trained model: weights rounded to 8 or 4 bits, those that matter least left out.

Other rooms may use `Variant`, `wanted`, `calibration_records`, `check` and `compress`. What is done to weights that are released
already, or by texts that they write, costs no privacy.
"""

from .folder import compress
from .records import calibration_records, check
from .variant import Variant, wanted

__all__ = ["Variant", "calibration_records", "check", "compress", "wanted"]
