"""The most memory that this process has used, and how to use less."""

from __future__ import annotations

import ctypes
import gc
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Of glibc's mallopt: above how many bytes at the end of the heap it goes back to the system, and from what size on an array gets pages of
# its own; the largest that glibc allows, and twice that, which is what it comes to by itself.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
ARRAY, LARGEST_IN_HEAP, NEVER = 1 << 20, 32 << 20, 2**31 - 1


def peak_memory(device: str = "cpu") -> int:
    """Bytes at the highest point since `forget_peak`, or since the process began: of the GPU, or of resident memory.

    Args:
        device: "cpu" or "cuda". Default "cpu".
    """
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Begins a new count, so that a run is not charged with what the process did before it; only Linux can do this."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def give_back() -> None:
    """Hands what is no longer used back to the system, so that a stage does not take its memory on top of the last one's.

    Else glibc's allocator keeps it in pieces that training's larger arrays do not fit into: 150 MB in the demo.
    """
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Keeps what each step frees for the next one. Else glibc returns it, and the system clears every page anew: 3 to 15 % of a step."""
    _set_allocator(NEVER)
    try:
        yield
    finally:
        _set_allocator(2 * LARGEST_IN_HEAP)


def return_arrays() -> None:
    """Gives each array of a megabyte or more pages of its own, which go back to the system with it; until `keeping_memory` ends.

    With activation checkpointing, what comes and goes lies between inputs of blocks that stay, and leaves gaps: 469 MB instead of 138.
    """
    _set_allocator(NEVER, ARRAY)


def _set_allocator(trim: int, pages: int = LARGEST_IN_HEAP) -> None:
    with suppress(OSError, AttributeError):  # another system's allocator
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_THRESHOLD, pages)
        libc.mallopt(TRIM_THRESHOLD, trim)
