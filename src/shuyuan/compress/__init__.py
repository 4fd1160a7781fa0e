"""Smaller variants of a trained model: weights rounded to 8 or 4 bits, those that matter least left out.

Other rooms may use `Variant`, `wanted`, `calibration_records`, `NOTHING_SEEN`, `check`, `note` and `compress`. What is done to weights that are released
already, or by texts that they write, costs no privacy.
"""

from .folder import compress
from .records import NOTHING_SEEN, calibration_records, check, note
from .variant import Variant, wanted

__all__ = ["NOTHING_SEEN", "Variant", "calibration_records", "check", "compress", "note", "wanted"]
