"""Smaller variants of a trained model: weights rounded to 8 or 4 bits, those that matter least left out.

Other rooms may use `Variant`, `wanted`, `calibration_records`, `no_records` and `compress`. What is done to weights that are released
already, or by texts that they write, costs no privacy.
"""

from .folder import compress
from .records import calibration_records, no_records
from .variant import Variant, wanted

__all__ = ["Variant", "calibration_records", "compress", "no_records", "wanted"]
