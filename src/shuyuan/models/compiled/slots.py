"""Slots of the transformer that forward.c computes: prompts are read in pieces while others go on, and what was read is remembered.

Nothing that a sequence gets depends on what stands beside it: not on the other sequences, nor on the pieces, nor on what was
remembered. Loads no torch.

Shapes: V vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ... import hardware
from ...errors import ShuyuanError
from ..packed import GROUP
from .model import CompiledModel
from .structures import Arrays, Model
from .turns import Turns

Floats = NDArray[np.float32]
A_THREADS_SHARE = 2**20  # parameters: with fewer, threads wait for each other longer than they compute
PIECE = 64  # tokens of prompts that are read in one step, beside one token of each sequence that goes on


@dataclass
class _Slot:
    """What a slot holds.

    Attributes:
        read: tokens whose keys and values are there.
        left: tokens of the prompt that are still to be read.
        tenant: whose they are; None: nobody's, and forgotten when the slot is given back.
        used: when it was last begun, in sequences.
    """

    read: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    tenant: str | None = None
    used: int = 0


class CompiledSlots:
    """Places for sequences that come and go; all memory is set aside at the start.

    Args:
        model: the network.
        count: how many sequences at once.
        capacity: tokens that each can hold, at most the model's context.
    """

    def __init__(self, model: CompiledModel, count: int, capacity: int) -> None:
        self._model, self._arrays = model, Arrays()
        self._capacity = min(capacity, model.context)
        self._state = self._allocate(count, _whole(self._capacity))
        self._slots = [_Slot() for _ in range(count)]
        self._idle = list(range(count))
        self._turns = Turns()
        self._begun = 0

    @property
    def idle(self) -> int:
        """Slots that no sequence has."""
        return len(self._idle)

    @property
    def bytes(self) -> int:
        """Memory of all slots."""
        return self._arrays.bytes

    def begin(self, tokens: Sequence[int], tenant: str | None = None) -> tuple[int, Floats | None]:
        """Puts a prompt into an idle slot; the next steps read it.

        Args:
            tokens: the prompt.
            tenant: whose it is: what another prompt of the same tenant began with is not read again. None: everything is read.

        Returns:
            The slot, and None: the logits of the token after the prompt come from the `decode` that has read its last token.

        Raises:
            ShuyuanError: the prompt is longer than the capacity.
        """
        self._check(len(tokens))
        slot, known = self._place(tokens, tenant)
        self._idle.remove(slot)
        self._begun += 1
        self._slots[slot] = _Slot(list(tokens[:known]), list(tokens[known:]), tenant, self._begun)
        return slot, None

    def prefill(self, tokens: Sequence[int]) -> tuple[int, Floats]:
        """Reads a whole sequence into an idle slot, while no other is being read; gives the slot, and the logits_V after it.

        Raises:
            ShuyuanError: the sequence is longer than the capacity.
        """
        slot, logits_V = self.begin(tokens)
        while logits_V is None:
            logits_V = self.decode({}).get(slot)
        return slot, logits_V

    def decode(self, tokens: Mapping[int, int]) -> dict[int, Floats]:
        """One step: adds a token to sequences, and reads on in prompts that are not read yet.

        Where several tenants have sequences, those rest for whom more was computed than for others.

        Args:
            tokens: slot to token.

        Returns:
            Slot to logits_V of the token after it; of a prompt too, once it is read. Of sequences that rested nothing: they are to be asked for
            again with the same token.

        Raises:
            ShuyuanError: a slot is full.
        """
        new: dict[int, list[int]] = {}
        waiting = [slot for slot, held in enumerate(self._slots) if held.left]
        resting = self._turns.resting({self._slots[slot].tenant for slot in (*tokens, *waiting)})
        for slot, token in tokens.items():
            if self._slots[slot].tenant not in resting:
                self._check(len(self._slots[slot].read) + 1)
                new[slot] = [token]
        room = PIECE
        for slot in sorted(waiting, key=lambda slot: self._slots[slot].used):
            held = self._slots[slot]
            if room and held.tenant not in resting:
                new[slot], held.left = held.left[:room], held.left[room:]
                room -= len(new[slot])
        for slot, own in new.items():
            self._turns.count(self._slots[slot].tenant, len(own))
        return self._forward(new)

    def fork(self, slot: int) -> int:
        """Copies a sequence into an idle slot; gives that."""
        copy, held = self._idle.pop(), self._slots[slot]
        self._copy(slot, copy, len(held.read))
        self._slots[copy] = _Slot(list(held.read), list(held.left))
        return copy

    def free(self, slot: int) -> None:
        """Gives a slot back."""
        held = self._slots[slot]
        if held.tenant is None:
            held.read = []
        held.left = []
        self._idle.append(slot)

    def _place(self, tokens: Sequence[int], tenant: str | None) -> tuple[int, int]:
        """An idle slot for a prompt, and how many of its tokens it knows: the last is always read, for its logits.

        What another slot of the same tenant knows is copied. Without such a one it is the slot that rested longest.
        """
        alike = dict.fromkeys(self._idle, 0)
        if tenant is not None:
            begins = tokens[:-1]
            alike |= {
                slot: _shared(held.read, begins)
                for slot, held in enumerate(self._slots)
                if held.tenant == tenant
            }
        best = max(alike, key=lambda slot: (alike[slot], slot in self._idle))
        if alike[best] and best in self._idle:
            return best, alike[best]
        place = min(self._idle, key=lambda slot: self._slots[slot].used)
        if alike[best]:
            self._copy(best, place, alike[best])
        return place, alike[best]

    def _check(self, length: int) -> None:
        if length > self._capacity:
            raise ShuyuanError(
                "models.cache-full",
                f"The cache holds {self._capacity} tokens, and {length} are asked for.",
                mend="Begin again with the last part of the text.",
            )

    def _forward(self, new: Mapping[int, Sequence[int]]) -> dict[int, Floats]:
        """Adds tokens to sequences; the logits after the last of each whose prompt is read."""
        count = sum(map(len, new.values()))
        if not count:
            return {}
        tokens, slots, positions = (np.empty(count, np.int64) for _ in range(3))
        wanted, after, at = [], [], 0
        for slot, own in new.items():
            held, stop = self._slots[slot], at + len(own)
            tokens[at:stop], slots[at:stop] = own, slot
            positions[at:stop] = range(len(held.read), len(held.read) + len(own))
            held.read += own
            at = stop
            if not held.left:
                wanted.append(at - 1)
                after.append(slot)
        if tokens.min() < 0 or tokens.max() >= self._model.config.vocab_size:
            raise ShuyuanError(
                "models.no-such-token",
                f"Tokens are numbered from 0 to {self._model.config.vocab_size - 1}, and {tokens.max()} is asked for.",
                mend="Use the tokenizer that the model was trained with.",
            )
        wanted_N = np.array(wanted, np.int64)
        logits_NV = np.empty((len(wanted), self._model.config.vocab_size), np.float32)
        self._model.library.shuyuan_forward(
            ctypes.byref(self._state), ctypes.c_int64(count), *map(_address, (tokens, slots, positions)),
            ctypes.c_int64(len(wanted)), _address(wanted_N), _address(logits_NV),
        )  # fmt: skip
        return dict(zip(after, logits_NV, strict=True))

    def _copy(self, source: int, target: int, count: int) -> None:
        self._model.library.shuyuan_copy(
            ctypes.byref(self._state), *map(ctypes.c_int64, (source, target, count))
        )

    def _allocate(self, count: int, capacity: int) -> Model:
        config, room = self._model.config, self._arrays.room
        most = count + PIECE
        threads = max(1, min(hardware.detect().cores, config.parameters // A_THREADS_SHARE))
        width, attention, hidden = map(_whole, (config.width, config.heads * config.head_dim, config.hidden))
        kv_width = config.kv_heads * config.head_dim
        kept = (config.layers, count, config.kv_heads, capacity, config.head_dim)
        kind = np.uint16 if self._model.half else np.float32
        return Model(
            layers=config.layers, width=config.width, heads=config.heads, kv_heads=config.kv_heads,
            head_dim=config.head_dim, hidden=config.hidden, vocabulary=config.vocab_size, capacity=capacity, slots=count,
            half_cache=self._model.half, threads=threads, eps=config.norm_eps, cos=self._model.cos, sin=self._model.sin,
            embedding=self._model.embedding, head=self._model.head, layer=self._model.layers, last_norm=self._model.last_norm,
            keys=room(*kept, dtype=kind), values=room(*kept, dtype=kind),
            stream=room(most, width), normed=room(most, width), q=room(most, attention), k=room(most, kv_width), v=room(most, kv_width),
            attended=room(most, attention), gated=room(2 * most, hidden), scores=room(threads, 2, capacity),
            input=self._arrays.input(most * max(width, attention, hidden)),
        )  # fmt: skip


def _whole(count: int) -> int:
    return -(-count // GROUP) * GROUP


def _address(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
