"""How fast a variant writes on this machine, and how much memory its weights take."""

from __future__ import annotations

import time
from itertools import chain
from typing import Any

from ..models import AnyNetwork, CompiledModel, open_slots

TOKENS, ROUNDS = 32, 3


def speed(model: AnyNetwork | CompiledModel) -> dict[str, float]:
    """{tokens_per_second, memory_bytes} of a model that continues text, asked for one text.

    Args:
        model: as it is asked for text; the memory of one that TensorFlow computes is not told.
    """
    count = max(1, min(TOKENS, model.context - 1))
    slots = open_slots(model, 1, count + 1)
    best = 0.0
    for _ in range(ROUNDS):
        slot, _ = slots.prefill([0])
        begin = time.perf_counter()
        for _ in range(count):
            slots.decode({slot: 0})
        best = max(best, count / (time.perf_counter() - begin))
        slots.free(slot)
    return {"tokens_per_second": round(best, 1)} | _memory(model)


def _memory(model: Any) -> dict[str, float]:
    if isinstance(model, CompiledModel):
        return {"memory_bytes": model.bytes}
    if not hasattr(model, "parameters"):
        return {}
    kept = {
        id(weight): weight for weight in chain(model.parameters(), model.buffers())
    }.values()  # codes are buffers
    return {"memory_bytes": sum(weight.numel() * weight.element_size() for weight in kept)}
