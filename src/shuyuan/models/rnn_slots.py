"""Generation with recurrent models: the states of each sequence are all that is remembered, so a token costs one position.

Legend: B slots, T positions, W units, V entries of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .keras_library import keras_library
from .recurrent import CELLS
from .rnn import RnnModel
from .working import KINDS, advance, dense_of, is_computed, logits, recur

keras, tf = keras_library()

Floats = NDArray[np.float32]
# Layers whose output at a position follows from that position alone.
POSITIONWISE = (
    keras.layers.Dense, keras.layers.LayerNormalization, keras.layers.Dropout, keras.layers.SpatialDropout1D,
    keras.layers.GaussianDropout, keras.layers.GaussianNoise, keras.layers.Activation, keras.layers.ReLU,
    keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.Softmax,
)  # fmt: skip


def open_rnn_slots(model: RnnModel, count: int) -> RnnSlots | RereadSlots:
    """Slots of a recurrent model that continues text; slower ones where a layer needs more than the position before.

    Args:
        model: a recurrent one that continues text; from now on it computes in the format of its own layers.
        count: sequences at once.
    """
    model.compute_in(None)
    return RnnSlots(model, count) if _is_chain(model.plain) else RereadSlots(model, count)


def _is_chain(plain: Any) -> bool:
    if not isinstance(plain, keras.Sequential):
        return False
    first, *rest = plain.layers
    forward = all(
        type(layer) in POSITIONWISE or (is_computed(layer) and not layer.go_backwards) for layer in rest
    )
    return type(first) is keras.layers.Embedding and not first.mask_zero and forward


class RnnSlots:
    """Places for sequences that come and go, as `Slots` has it: `prefill` opens one, `decode` makes all longer.

    Args:
        model: the network; it is only read.
        count: how many sequences at once. Each step computes so many, whether in use or not, so that there is one shape.
    """

    def __init__(self, model: RnnModel, count: int) -> None:
        self._model = model
        self._head = dense_of(model.plain.layers[-1])
        self._idle = list(range(count))[::-1]
        cells = [layer for layer in model.plain.layers if type(layer) in KINDS]
        self._states: list[Floats] = [
            np.zeros((count, layer.units), np.float32)
            for layer in cells
            for _ in range(CELLS[KINDS[type(layer)]].states)
        ]
        states = tuple(tf.TensorSpec((None, state.shape[1])) for state in self._states)
        self._step = tf.function(self._one, input_signature=(tf.TensorSpec((None,), tf.int32), states))
        self._read = tf.function(self._all, input_signature=(tf.TensorSpec((None, None), tf.int32),))

    @property
    def idle(self) -> int:
        """Slots that no sequence has."""
        return len(self._idle)

    def prefill(self, tokens: Sequence[int]) -> tuple[int, Floats]:
        """Reads a sequence into an idle slot; the slot, and logits_V of the token after the last."""
        logits_BV, states = self._read(np.array([tokens], np.int32) + self._model.config.offset)
        slot = self._idle.pop()
        for memory, state in zip(self._states, states, strict=True):
            memory[slot] = state.numpy()[0]
        return slot, logits_BV.numpy()[0]

    def decode(self, tokens: Mapping[int, int]) -> dict[int, Floats]:
        """Adds one token to every sequence; slot to logits_V of the token after it."""
        tokens_B = np.zeros(len(self._states[0]), np.int32)
        for slot, token in tokens.items():
            tokens_B[slot] = token + self._model.config.offset
        logits_BV, states = self._step(tokens_B, tuple(self._states))
        self._states = [np.array(state) for state in states]
        found: Floats = logits_BV.numpy()
        return {slot: found[slot] for slot in tokens}

    def begin(self, tokens: Sequence[int], tenant: str | None = None) -> tuple[int, Floats]:
        """As `prefill`; nothing is remembered of a sequence that has left, whoever the tenant is."""
        return self.prefill(tokens)

    def fork(self, slot: int) -> int:
        """Copies a sequence into an idle slot; gives that."""
        copy = self._idle.pop()
        for memory in self._states:
            memory[copy] = memory[slot]
        return copy

    def free(self, slot: int) -> None:
        """Gives a slot back."""
        self._idle.append(slot)

    def _one(self, tokens_B: Any, states: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """One position: logits, and the new states."""
        new: list[Any] = []
        x_BC, left = tokens_B, list(states)
        for layer in self._layers():
            if type(layer) in KINDS:
                count = CELLS[KINDS[type(layer)]].states
                own, left = tuple(left[:count]), left[count:]
                new += advance(layer, x_BC, own)
                x_BC = new[-count]
            else:
                x_BC = layer(x_BC)
        return self._logits(x_BC), tuple(new)

    def _all(self, tokens_BT: Any) -> tuple[Any, tuple[Any, ...]]:
        """All positions of a sequence: the logits of the last, and the states after it."""
        new: list[Any] = []
        x_BTC = tokens_BT
        for layer in self._layers():
            if type(layer) in KINDS:
                x_BTC, passed = recur(layer, x_BTC, None, training=False)
                new += passed.last
            else:
                x_BTC = layer(x_BTC)
        return self._logits(x_BTC[:, -1] if x_BTC.shape.rank == 3 else x_BTC), tuple(new)

    def _layers(self) -> list[Any]:
        """All but the last, which `_logits` computes."""
        found: list[Any] = self._model.plain.layers[:-1]
        return found

    def _logits(self, x_BC: Any) -> Any:
        return tf.cast(x_BC, tf.float32) if self._head is None else logits(self._head, x_BC)


class RereadSlots:
    """The same for models with layers that look around: every token reads the whole text again.

    Args:
        model: the network; it is only read.
        count: how many sequences at once.
    """

    def __init__(self, model: RnnModel, count: int) -> None:
        self._model = model
        self._idle = list(range(count))[::-1]
        self._texts: dict[int, list[int]] = {}

    @property
    def idle(self) -> int:
        """Slots that no sequence has."""
        return len(self._idle)

    def prefill(self, tokens: Sequence[int]) -> tuple[int, Floats]:
        """As of `RnnSlots`."""
        slot = self._idle.pop()
        self._texts[slot] = list(tokens)
        return slot, self._next(slot)

    def decode(self, tokens: Mapping[int, int]) -> dict[int, Floats]:
        """As of `RnnSlots`."""
        for slot, token in tokens.items():
            self._texts[slot].append(token)
        return {slot: self._next(slot) for slot in tokens}

    def begin(self, tokens: Sequence[int], tenant: str | None = None) -> tuple[int, Floats]:
        """As of `RnnSlots`."""
        return self.prefill(tokens)

    def fork(self, slot: int) -> int:
        """As of `RnnSlots`."""
        copy = self._idle.pop()
        self._texts[copy] = list(self._texts[slot])
        return copy

    def free(self, slot: int) -> None:
        """Gives a slot back."""
        self._idle.append(slot)

    def _next(self, slot: int) -> Floats:
        found: Floats = self._model.next_logits(np.array([self._texts[slot]], np.int64))[0]
        return found
