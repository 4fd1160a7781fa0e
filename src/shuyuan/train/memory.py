"""The most memory that this process has used."""

from __future__ import annotations

import ctypes
import gc
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path


def peak_memory() -> int:
    """Bytes of resident memory at the highest point since `forget_peak`, or since the process began."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Begins a new count, so that training is not charged with what preparation used; only Linux can do this.

    What preparation and calibration have freed, glibc's allocator keeps in pieces that training's larger arrays do not fit
    into, unless it is asked to hand it back: 150 MB in the demo.
    """
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
