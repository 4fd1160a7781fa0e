"""Where a model that does not learn is computed: on this machine's device, or on the CPU where the device has no room for its weights.

A model that was trained beside a quantised base is larger, in floats, than what trained it.
"""

from __future__ import annotations

from itertools import chain

from torch import nn

from ..hardware import detect
from ..progress import Progress

ROOM = 0.9  # of the device's memory, that weights may take: what is computed with them takes the rest


def device_for(model: nn.Module, progress: Progress | None = None) -> str:
    """This machine's device, or "cpu".

    Args:
        model: with its weights, wherever they are.
        progress: is told that they have no room.
    """
    hardware = detect()
    held = sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()))
    unknown = not hardware.memory_bytes
    if hardware.device == "cpu" or unknown or held <= ROOM * hardware.memory_bytes:
        return hardware.device
    (progress or Progress()).say(
        "models.no-room",
        "The GPU has no room for the model in floats: it is computed on the CPU, many times slower. A variant of fewer bits may fit.",
    )
    return "cpu"
