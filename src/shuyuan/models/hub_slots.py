"""Slots of a model that transformers computes: each sequence has the cache of its own that transformers makes for it.

Shapes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from .hub_model import HubModel


class HubSlots:
    """Places for sequences that come and go, as `Slots`, computed one after another: slower, and right for any architecture.

    Args:
        model: the network; it is only read.
        count: how many sequences at once.
    """

    def __init__(self, model: HubModel, count: int) -> None:
        self._body: Any = model.body.eval()
        self._device = next(model.parameters()).device
        self._idle = list(range(count))[::-1]
        self._caches: dict[int, Any] = {}

    @property
    def idle(self) -> int:
        """Slots that no sequence has."""
        return len(self._idle)

    def prefill(self, tokens: Sequence[int]) -> tuple[int, Tensor]:
        """Reads a sequence into an idle slot; gives the slot, and logits_V of the token after the last, on the CPU."""
        slot = self._idle.pop()
        return slot, self._next_logits(slot, tokens)

    def decode(self, tokens: Mapping[int, int]) -> dict[int, Tensor]:
        """Adds one token to every sequence; gives slot to logits_V of the token after it."""
        return {slot: self._next_logits(slot, [token]) for slot, token in tokens.items()}

    def begin(self, tokens: Sequence[int], tenant: str | None = None) -> tuple[int, Tensor]:
        """As `prefill`; nothing is remembered of a sequence that has left, whoever the tenant is."""
        return self.prefill(tokens)

    def fork(self, slot: int) -> int:
        """Copies a sequence into an idle slot; gives that."""
        copy = self._idle.pop()
        self._caches[copy] = deepcopy(self._caches[slot])
        return copy

    def free(self, slot: int) -> None:
        """Gives a slot back."""
        self._caches.pop(slot, None)
        self._idle.append(slot)

    @torch.inference_mode()
    def _next_logits(self, slot: int, tokens: Sequence[int]) -> Tensor:
        tokens_1T = torch.tensor([list(tokens)], device=self._device)
        said = self._body(input_ids=tokens_1T, past_key_values=self._caches.get(slot), use_cache=True)
        self._caches[slot] = said.past_key_values
        logits_V: Tensor = said.logits[0, -1]
        return logits_V.float().cpu()
