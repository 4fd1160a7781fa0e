"""The door: trained runs behind HTTP, with keys, limits, a guard and an audit log.

Other rooms may use `Keys`, `expiry`, `open_state` and `default_folder`, which need the standard library alone.
"""

from .auth import Key, Keys, expiry
from .state import default_folder, open_state

__all__ = ["Key", "Keys", "default_folder", "expiry", "open_state"]
