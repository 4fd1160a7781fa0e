"""What generation remembers: keys and values of every token so far, and slots that sequences come to and leave.

Shapes: L layers, B sequences, T new tokens of each, S tokens with those remembered, K key-value heads, H query heads,
D width of a head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ShuyuanError
from .config import TransformerConfig
from .functions import attend_causal
from .hub_model import HubModel
from .hub_slots import HubSlots
from .transformer import Attend, Transformer


class Cache:
    """Keys and values of some sequences, which may have different lengths; room is set aside at the start.

    Args:
        config: the model's shape.
        sequences: how many sequences.
        capacity: tokens that each can hold, at most the context.
        device: where the model is.
        dtype: of the model's keys: float32, or what autocast chooses.
    """

    def __init__(
        self,
        config: TransformerConfig,
        sequences: int,
        capacity: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (config.layers, sequences, config.kv_heads, min(capacity, config.context), config.head_dim)
        # Zeros, not whatever memory held: attention multiplies what it does not see by zero, and 0 · NaN is NaN.
        self.keys_LBKSD = torch.zeros(shape, device=device, dtype=dtype)
        self.values_LBKSD = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths_B = torch.zeros(sequences, dtype=torch.int64)  # on the CPU: they decide shapes

    @property
    def capacity(self) -> int:
        """Tokens that each sequence can hold."""
        return self.keys_LBKSD.shape[3]

    def view(self, start: int, stop: int) -> Cache:
        """The sequences from `start` up to `stop`; it shares memory with this cache."""
        part = Cache.__new__(Cache)
        part.keys_LBKSD = self.keys_LBKSD[:, start:stop]
        part.values_LBKSD = self.values_LBKSD[:, start:stop]
        part.lengths_B = self.lengths_B[start:stop]
        return part

    def move(self, source: int, target: int) -> None:
        """Puts the sequence at `source` in the place of the one at `target`."""
        length = int(self.lengths_B[source])
        for memory_LBKSD in (self.keys_LBKSD, self.values_LBKSD):
            memory_LBKSD[:, target, :, :length] = memory_LBKSD[:, source, :, :length]
        self.lengths_B[target] = length

    def extend(self, count: int) -> tuple[slice | Tensor, Iterator[Attend]]:
        """Makes every sequence `count` tokens longer.

        Returns:
            The new tokens' positions (a slice where all sequences are equally long, else positions_BT), and for each
            layer the function that stores its new keys and values and attends to all.

        Raises:
            ShuyuanError: there is no room for them.
        """
        start, longest = int(self.lengths_B.min()), int(self.lengths_B.max())
        stop = longest + count
        if stop > self.capacity:
            raise ShuyuanError(
                "models.cache-full",
                f"The cache holds {self.capacity} tokens, and {stop} are asked for.",
                mend="Begin again with the last part of the text.",
            )
        positions_BT = self.lengths_B[:, None] + torch.arange(count)
        self.lengths_B += count
        layers = range(self.keys_LBKSD.shape[0])
        if start == longest:
            new = slice(start, stop)
            return new, (partial(self._attend_even, layer, new) for layer in layers)
        positions_BT = positions_BT.to(self.keys_LBKSD.device)
        seen_B1TS = (torch.arange(stop, device=positions_BT.device) <= positions_BT[..., None]).unsqueeze(1)
        ragged = partial(self._attend_ragged, positions_BT, seen_B1TS)
        return positions_BT, (partial(ragged, layer) for layer in layers)

    def _attend_even(self, layer: int, new: slice, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor) -> Tensor:
        keys_BKSD, values_BKSD = self.keys_LBKSD[layer], self.values_LBKSD[layer]
        keys_BKSD[:, :, new] = k_BKTD
        values_BKSD[:, :, new] = v_BKTD
        if new.start == 0:
            return attend_causal(q_BHTD, k_BKTD, v_BKTD)
        seen_TS = None  # a single new token sees all
        if q_BHTD.shape[2] > 1:
            places = torch.arange(new.stop, device=q_BHTD.device)
            seen_TS = places <= places[new, None]
        return _attend(q_BHTD, keys_BKSD[:, :, : new.stop], values_BKSD[:, :, : new.stop], seen_TS)

    def _attend_ragged(
        self,
        positions_BT: Tensor,
        seen_B1TS: Tensor,
        layer: int,
        q_BHTD: Tensor,
        k_BKTD: Tensor,
        v_BKTD: Tensor,
    ) -> Tensor:
        keys_BKSD, values_BKSD = self.keys_LBKSD[layer], self.values_LBKSD[layer]
        sequences_B1 = torch.arange(len(positions_BT), device=positions_BT.device)[:, None]
        keys_BKSD[sequences_B1, :, positions_BT] = k_BKTD.transpose(1, 2)
        values_BKSD[sequences_B1, :, positions_BT] = v_BKTD.transpose(1, 2)
        stop = seen_B1TS.shape[-1]
        return _attend(q_BHTD, keys_BKSD[:, :, :stop], values_BKSD[:, :, :stop], seen_B1TS)


def _attend(q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, seen: Tensor | None) -> Tensor:
    if q_BHTD.shape[2] == 1 and q_BHTD.device.type == "cpu":
        return _attend_one(q_BHTD, k_BKSD, v_BKSD, seen)
    grouped = q_BHTD.shape[1] != k_BKSD.shape[1]
    return F.scaled_dot_product_attention(q_BHTD, k_BKSD, v_BKSD, attn_mask=seen, enable_gqa=grouped)


def _attend_one(q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, seen: Tensor | None) -> Tensor:
    """One new token each, by products: torch's own attention takes three times as long on a CPU in bfloat16."""
    B, H, _, D = q_BHTD.shape
    K, S = k_BKSD.shape[1:3]
    q, k, v = q_BHTD.reshape(B * K, H // K, D), k_BKSD.flatten(0, 1), v_BKSD.flatten(0, 1)
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.transpose(1, 2), beta=0, alpha=D**-0.5)
    if seen is not None:
        scores.view(B, K, -1, S).masked_fill_(~seen, -torch.inf)
    return torch.bmm(scores.softmax(-1), v).view(B, H, 1, D)


class Slots:
    """Places for sequences that come and go: `prefill` opens one, `decode` makes all longer, `fork` copies one, `free` gives one
    back.

    Sequences in use stay side by side in the cache, so that a step is one batch however many there are.

    Args:
        model: the network; it is only read.
        count: how many sequences at once.
        capacity: tokens that each can hold, at most the model's context.
    """

    def __init__(self, model: Transformer, count: int, capacity: int) -> None:
        self._model = model
        norm = model.model.norm.weight  # matrices may be whole numbers
        self._device = norm.device
        self._cache = Cache(model.config, count, capacity, device=self._device, dtype=norm.dtype)
        self._idle = list(range(count))[::-1]
        self._used: list[int] = []  # the slot of each sequence, in the cache's order

    @property
    def idle(self) -> int:
        """Slots that no sequence has."""
        return len(self._idle)

    @torch.inference_mode()
    def prefill(self, tokens: Sequence[int]) -> tuple[int, Tensor]:
        """Reads a sequence into an idle slot.

        Returns:
            The slot, and logits_V of the token after the last, float32, on the CPU.

        Raises:
            ShuyuanError: the sequence is longer than the capacity.
        """
        place = len(self._used)
        own = self._cache.view(place, place + 1)
        own.lengths_B.zero_()
        logits_1V = self._next_logits([tokens], own)
        slot = self._idle.pop()
        self._used.append(slot)
        return slot, logits_1V[0]

    @torch.inference_mode()
    def decode(self, tokens: Mapping[int, int]) -> dict[int, Tensor]:
        """Adds one token to every sequence.

        Args:
            tokens: slot to token, for each slot in use.

        Returns:
            Slot to logits_V of the token after it, float32, on the CPU.

        Raises:
            ShuyuanError: a slot is full.
        """
        used = self._cache.view(0, len(self._used))
        logits_BV = self._next_logits([[tokens[slot]] for slot in self._used], used)
        return dict(zip(self._used, logits_BV, strict=True))

    def begin(self, tokens: Sequence[int], tenant: str | None = None) -> tuple[int, Tensor]:
        """As `prefill`; nothing is remembered of a sequence that has left, whoever the tenant is."""
        return self.prefill(tokens)

    def fork(self, slot: int) -> int:
        """Copies a sequence into an idle slot; gives that."""
        self._cache.move(self._used.index(slot), len(self._used))
        copy = self._idle.pop()
        self._used.append(copy)
        return copy

    def free(self, slot: int) -> None:
        """Gives a slot back; the last sequence moves into the gap."""
        place, last = self._used.index(slot), len(self._used) - 1
        if place != last:
            self._cache.move(last, place)
            self._used[place] = self._used[last]
        self._used.pop()
        self._idle.append(slot)

    def _next_logits(self, tokens: Sequence[Sequence[int]], cache: Cache) -> Tensor:
        tokens_BT = torch.tensor(tokens, device=self._device)
        x_BTC = self._model.model(tokens_BT, cache)
        logits_BV: Tensor = self._model.lm_head(
            x_BTC[:, -1]
        )  # the head is wide: only the last token needs it
        return logits_BV.float().cpu()


def open_slots(model: Transformer | HubModel, count: int, capacity: int) -> Slots | HubSlots:
    """Slots of a model that continues text, which torch computes.

    Args:
        model, count, capacity: as of `networks.open_slots`.
    """
    return HubSlots(model, count) if isinstance(model, HubModel) else Slots(model, count, capacity)
