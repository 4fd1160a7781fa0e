"""Generation with recurrent models: a token costs one position, and says what reading the whole text again says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shuyuan.data import char_tokenizer
from shuyuan.inference import Engine
from shuyuan.models.rnn import RnnModel
from shuyuan.models.rnn_slots import RereadSlots, RnnSlots, open_rnn_slots

from .recurrent_models import V, enliven, keras, model

L = keras.layers


def given(*layers: Any) -> RnnModel:
    plain = keras.Sequential([L.Input((None,), dtype="int32"), L.Embedding(V, 8), *layers, L.Dense(V)])
    enliven(plain)
    return RnnModel(model("lstm").config, plain)


@pytest.mark.parametrize(
    "ours",
    [
        lambda: model("lstm"),
        lambda: model("gru"),
        lambda: model("simple", predict="last", layers=1),
        lambda: given(L.LSTM(6, return_sequences=True), L.LayerNormalization(), L.Dropout(0.5), L.GRU(5, use_bias=False)),
        lambda: given(L.Dense(6, activation="relu"), L.SimpleRNN(5, return_sequences=True), L.Dense(4, activation="tanh")),
    ],
)  # fmt: skip
def test_one_position_at_a_time_says_what_the_whole_text_says(ours: Any) -> None:
    network = ours()
    fast, slow = open_rnn_slots(network, 3), RereadSlots(network, 3)
    assert isinstance(fast, RnnSlots)
    (first, a), (second, b) = (slots.prefill([1, 5, 7, 9]) for slots in (fast, slow))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for token in (4, 8, 2):
        a, b = fast.decode({first: token})[first], slow.decode({second: token})[second]
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_sequences_come_and_go_without_touching_each_other() -> None:
    network = model("gru")
    slots, alone = RnnSlots(network, 2), RnnSlots(network, 2)
    one, _ = slots.prefill([3, 1])
    two, _ = slots.prefill([9, 9, 9])
    assert slots.idle == 0
    slots.decode({one: 4, two: 7})
    slots.free(one)
    three, _ = slots.prefill([2])
    assert three == one and slots.idle == 0
    found = slots.decode({two: 5, three: 6})
    own, _ = alone.prefill([9, 9, 9])
    alone.decode({own: 7})
    np.testing.assert_allclose(found[two], alone.decode({own: 5})[own], rtol=1e-5)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [L.Conv1D(6, 3, padding="causal"), L.LSTM(5, return_sequences=True)],
        lambda: [L.Bidirectional(L.LSTM(5))],
        lambda: [L.LSTM(5, go_backwards=True)],
        lambda: [L.LSTM(5, recurrent_dropout=0.1)],
    ],
)
def test_layers_that_look_around_are_read_again(layers: Any) -> None:
    network = given(*layers())
    slots = open_rnn_slots(network, 2)
    assert isinstance(slots, RereadSlots)
    slot, _ = slots.prefill([1, 2, 3])
    again = network.plain(np.array([[1, 2, 3, 4]]))
    wanted = again[0] if len(again.shape) == 2 else again[0, -1]
    np.testing.assert_allclose(slots.decode({slot: 4})[slot], wanted, rtol=1e-4, atol=1e-5)
    slots.free(slot)
    assert slots.idle == 2


def test_the_engine_continues_texts_with_them() -> None:
    tokenizer = char_tokenizer(["abcdef"])
    network = model("lstm", vocab_size=tokenizer.vocab_size)
    engine = Engine(network, tokenizer)  # type: ignore[arg-type]
    said = "".join(engine.generate("abc", max_tokens=30, seed=3))
    assert said == "".join(engine.generate("abc", max_tokens=30, seed=3))
    assert said != "".join(engine.generate("abc", max_tokens=30, seed=4))
    assert engine.generate_all(["abc", "f"], max_tokens=8, temperature=0)[0] == "".join(
        engine.generate("abc", max_tokens=8, temperature=0)
    )


@pytest.mark.parametrize("kind", [RnnSlots, RereadSlots])
def test_a_forked_sequence_goes_its_own_way(kind: Any) -> None:
    network = model("lstm")
    slots = kind(network, 2)
    first, _ = slots.prefill([1, 5, 7])
    copy = slots.fork(first)
    found = slots.decode({first: 4, copy: 8})
    for slot, last in ((first, 4), (copy, 8)):
        alone = kind(network, 1).prefill([1, 5, 7, last])[1]
        np.testing.assert_allclose(found[slot], alone, rtol=1e-4, atol=1e-5)
