"""What this machine is and can do: facts in a blink, rates measured once and cached. Nothing here loads torch by itself.

Other rooms use `detect`, `choose_precision`, `measured_rates`, `assumed_rates`, `remembered` for what is measured once, and `cache_folder`; and `machines` for hardware
that is not here.
"""

from .catalog import Machines, machines
from .facts import Hardware, detect
from .precision import Precision, choose_precision
from .rates import Rates, assumed_rates, cache_folder, measured_rates, remembered
from .table import Accelerator

__all__ = [
    "Accelerator",
    "Hardware",
    "Machines",
    "Precision",
    "Rates",
    "assumed_rates",
    "cache_folder",
    "choose_precision",
    "detect",
    "machines",
    "measured_rates",
    "remembered",
]
