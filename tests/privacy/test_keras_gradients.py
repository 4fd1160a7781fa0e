"""Private gradients of models of Keras, against a loop that takes one unit at a time in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shuyuan.errors import PrivacyError
from shuyuan.models.keras_file import read_table
from shuyuan.models.rnn import RnnModel, to_bytes
from shuyuan.models.rnn_folder import _fitted
from shuyuan.privacy.keras import KerasClipper
from shuyuan.privacy.keras.contributions import Outer, Table
from shuyuan.privacy.mechanism import AUTO_STABILITY, ROUNDING

from ..models.recurrent_models import T, V, enliven, keras, model, rows, tf

L = keras.layers
CLIP = 0.05  # far below the units' norms, so that all are cut
EACH, GROUPED = np.arange(6), np.array([0, 0, 1, 2, 2, 2])
Arrays = list[NDArray[np.float64]]


def units_gradients(
    ours: RnnModel, tokens: Any, targets: Any, unit: Any, network: Any = None
) -> list[Arrays]:
    """The gradient of each unit's mean loss, by Keras' own layers, one row at a time."""
    network, weights = network or ours.plain, ours.plain.trainable_variables
    inputs, wanted = ours.inputs(tokens), ours.targets(targets)
    found = []
    for number in range(unit.max() + 1):
        mine = np.flatnonzero(unit == number)
        with tf.GradientTape() as tape:
            loss = tf.zeros((), tf.float64)
            for row in mine:
                logs = tf.math.log(tf.cast(network(inputs[row : row + 1], training=False), tf.float64))
                logs = tf.reshape(logs, (-1, logs.shape[-1]))
                for place, target in enumerate(np.atleast_1d(wanted[row])):
                    loss -= logs[place, target] if target >= 0 else 0.0
            loss /= max(1, (wanted[mine] >= 0).sum())
        gradients = tape.gradient(loss, [weight.value for weight in weights], unconnected_gradients="zero")
        found.append([tf.convert_to_tensor(each).numpy().astype(np.float64) for each in gradients])
    return found


def norm(arrays: Arrays) -> float:
    return float(np.sqrt(sum(np.square(array).sum() for array in arrays)))


def clipped_sum(gradients: list[Arrays], clip: float = CLIP) -> Arrays:
    """The sum of the gradients, each cut to the clip."""
    factors = [min(1.0, clip * (1 - ROUNDING) / max(norm(each), 1e-30)) for each in gradients]
    return [
        sum(factor * each[place] for factor, each in zip(factors, gradients, strict=True))
        for place in range(len(gradients[0]))
    ]  # type: ignore[misc]


def assert_near(found: list[Any], wanted: Arrays, share: float = 3e-6) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=share * norm(wanted))


SHAPES: list[dict[str, Any]] = [
    {"cell": "lstm"},
    {"cell": "gru"},
    {"cell": "simple"},
    {"cell": "lstm", "labels": ("a", "b"), "bidirectional": True},
    {"cell": "gru", "labels": ("a", "b", "c"), "bidirectional": True},
]


@pytest.mark.parametrize("unit", [EACH, GROUPED], ids=["each", "grouped"])
@pytest.mark.parametrize("changes", SHAPES, ids=lambda changes: f"{changes['cell']}-{len(changes)}")
def test_the_sum_is_that_of_one_unit_at_a_time(changes: dict[str, Any], unit: Any) -> None:
    ours = model(**changes)
    tokens, targets = rows(ours.config)
    gradients = units_gradients(ours, tokens, targets, unit)
    clipper = KerasClipper(ours, CLIP)
    loss, learned, bad = clipper.add(tokens, targets, unit)
    assert learned == (targets >= 0).sum() and bad == 0
    assert loss == pytest.approx(ours.loss(tokens, targets), rel=1e-5)
    assert_near(clipper.take(), clipped_sum(gradients))
    assert min(map(norm, gradients[:-1])) > 2 * CLIP  # else nothing was cut


def given(labels: tuple[str, ...], *layers: Any) -> RnnModel:
    plain = keras.Sequential([L.Input((T,), dtype="int32"), *layers])
    enliven(plain)
    table = read_table(to_bytes(plain), "here")
    return RnnModel(_fitted(table, "here", T, V, 0, labels), plain)


LAYERS: dict[str, Any] = {
    "causal conv": lambda: [L.Conv1D(6, 3, padding="causal", activation="relu"), L.LSTM(5)],
    "dilated conv": lambda: [L.Conv1D(6, 3, dilation_rate=2, padding="same"), L.GlobalMaxPooling1D()],
    "strided conv": lambda: [L.Conv1D(6, 4, strides=3), L.GlobalAveragePooling1D()],
    "conv2d": lambda: [L.Reshape((T, 8, 1)), L.Conv2D(4, (3, 2), strides=2, padding="same"), L.Flatten()],
    "layer norm": lambda: [L.LayerNormalization(), L.LSTM(5), L.LayerNormalization(), L.Dense(7, activation="tanh")],
    "no bias": lambda: [L.LSTM(5, use_bias=False, return_sequences=True), L.GRU(5, use_bias=False), L.Dense(4, use_bias=False)],
    "backwards": lambda: [L.GRU(5, go_backwards=True)],
    "merged": lambda: [L.Bidirectional(L.SimpleRNN(5, return_sequences=True), merge_mode="sum"), L.LSTM(4)],
    "timed": lambda: [L.TimeDistributed(L.Dense(9)), L.LSTM(4)],
}  # fmt: skip


@pytest.mark.parametrize("unit", [EACH, GROUPED], ids=["each", "grouped"])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_every_named_layer_is_exact(name: str, unit: Any) -> None:
    embedding = L.Embedding(V + 1, 8, mask_zero=name in ("backwards", "merged"))
    ours = given(("a", "b"), embedding, *LAYERS[name](), L.Dense(2, activation="softmax"))
    random = np.random.default_rng(0)
    tokens, targets = random.integers(0, V, (6, T)), random.integers(0, 2, (6, 1))
    tokens[1, 6:] = -1
    gradients = units_gradients(ours, tokens, targets, unit)
    clipper = KerasClipper(ours, CLIP)
    clipper.add(tokens, targets, unit)
    assert_near(clipper.take(), clipped_sum(gradients))


def test_wide_matrices_go_by_their_factors_and_are_exact_too() -> None:
    ours = given(("a", "b"), L.Embedding(V + 1, 4), L.LSTM(64), L.Dense(2, activation="softmax"))
    random = np.random.default_rng(0)
    tokens, targets = random.integers(0, V, (6, T)), random.integers(0, 2, (6, 1))
    kinds: set[type] = set()
    inside = KerasClipper._contributions

    def spy(self: Any, *arguments: Any) -> Any:
        made = inside(self, *arguments)
        kinds.update(map(type, made))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KerasClipper, "_contributions", spy)
        clipper = KerasClipper(ours, CLIP)
        clipper.add(tokens, targets, EACH)
    assert {Outer, Table} < kinds
    assert_near(clipper.take(), clipped_sum(units_gradients(ours, tokens, targets, EACH)))


def test_physical_batches_add_up_and_the_sum_begins_anew() -> None:
    ours = model("gru")
    tokens, targets = rows(ours.config)
    clipper = KerasClipper(ours, CLIP)
    clipper.add(tokens, targets, EACH)
    whole = clipper.take()
    for part in (slice(0, 2), slice(2, 6)):
        clipper.add(tokens[part], targets[part], np.arange(part.stop - part.start))
    assert_near(clipper.take(), [each.astype(np.float64) for each in whole])
    assert all(not each.any() for each in clipper.take())


def test_no_unit_moves_the_sum_by_more_than_the_clip() -> None:
    """The very definition: the sums with and without a unit, whatever the format of the products."""
    for precision in ("fp32", "bf16"):
        ours = model("lstm")
        ours.compute_in(precision)
        tokens, targets = rows(ours.config)
        clipper = KerasClipper(ours, CLIP)
        clipper.add(tokens, targets, EACH)
        whole = clipper.take()
        for row in range(6):
            others = np.delete(np.arange(6), row)
            clipper.add(tokens[others], targets[others], np.arange(5))
            without = clipper.take()
            moved = norm([(a - b).astype(np.float64) for a, b in zip(whole, without, strict=True)])
            assert moved <= CLIP * (1 + 1e-5)
            assert moved > CLIP * 0.99 or row == 5  # whose targets are not learned


def test_bf16_is_near() -> None:
    ours = model("lstm")
    tokens, targets = rows(ours.config)
    gradients = units_gradients(ours, tokens, targets, EACH)
    ours.compute_in("bf16")
    clipper = KerasClipper(ours, CLIP)
    clipper.add(tokens, targets, EACH)
    assert_near(clipper.take(), clipped_sum(gradients), share=0.02)


def test_per_layer_and_automatic_clipping_are_what_they_say() -> None:
    ours = model("lstm", layers=1)
    tokens, targets = rows(ours.config)
    gradients = units_gradients(ours, tokens, targets, EACH)
    clipper = KerasClipper(ours, CLIP, "per-layer")
    clipper.add(tokens, targets, EACH)
    share = CLIP / len(clipper.weights) ** 0.5
    parts = [
        clipped_sum([[each[place]] for each in gradients], share)[0] for place in range(len(clipper.weights))
    ]
    assert_near(clipper.take(), parts)
    clipper = KerasClipper(ours, "auto")
    clipper.add(tokens, targets, EACH)
    factors = [(1 - ROUNDING) / (norm(each) + AUTO_STABILITY) for each in gradients]
    wanted = [
        sum(f * g[place] for f, g in zip(factors, gradients, strict=True))
        for place in range(len(clipper.weights))
    ]
    assert clipper.norm == 1.0
    assert_near(clipper.take(), wanted)  # type: ignore[arg-type]


def test_a_unit_that_is_not_finite_counts_as_zero_and_hides_no_other() -> None:
    ours = given(("a", "b"), L.Embedding(V + 1, 8), L.GRU(5), L.Dense(2, activation="softmax"))
    table = ours.plain.layers[0].embeddings
    table.assign(np.where(np.arange(V + 1)[:, None] == 4, np.inf, table.numpy()))
    random = np.random.default_rng(0)
    tokens, targets = random.integers(5, V, (6, T)), random.integers(0, 2, (6, 1))
    tokens[2, 3] = 3  # and 1 is added
    clipper = KerasClipper(ours, CLIP)
    loss, learned, bad = clipper.add(tokens, targets, EACH)
    found = clipper.take()
    others = np.delete(np.arange(6), 2)
    alone, alone_learned, none = clipper.add(tokens[others], targets[others], np.arange(5))
    assert (bad, none) == (1, 0) and (loss, learned) == (pytest.approx(alone, rel=1e-5), alone_learned)
    assert_near(found, [each.astype(np.float64) for each in clipper.take()])


def test_the_forward_pass_is_the_models_own() -> None:
    """Dropout too: what is clipped is the gradient of what is trained."""
    ours = model("lstm", dropout=0.5)
    tokens, targets = rows(ours.config)
    clipper = KerasClipper(ours, CLIP)
    losses = {clipper.add(tokens, targets, EACH)[0] for _ in range(3)}
    assert len(losses) == 3


# ---- refusals --------------------------------------------------------------------------------------------------------------


REFUSED: dict[str, Any] = {
    "odd": lambda: [L.BatchNormalization(name="odd")],
    "plain": lambda: [L.LSTM(5, recurrent_dropout=0.1, name="plain")],
    "relu": lambda: [L.GRU(5, activation="relu", name="relu")],
    "before": lambda: [L.GRU(5, reset_after=False, name="before")],
    "grouped": lambda: [L.Conv1D(6, 3, groups=2, name="grouped")],
    "penal": lambda: [L.Dense(5, kernel_regularizer="l2", name="penal")],
    "active": lambda: [L.LSTM(5, activity_regularizer="l2", name="active")],
    "axis": lambda: [L.LayerNormalization(axis=1, name="axis")],
    "inner": lambda: [keras.Sequential([L.Input((T, 8)), L.Dense(4)], name="inner")],
    "separable": lambda: [L.SeparableConv1D(6, 3, name="separable")],
    "mine": lambda: [
        type("Mine", (L.Layer,), {"call": lambda self, x: x - tf.reduce_mean(x, 0)})(name="mine")
    ],
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_any_other_layer_is_refused_by_name(name: str) -> None:
    layers = REFUSED[name]()
    plain = keras.Sequential(
        [L.Input((T,), dtype="int32"), L.Embedding(V, 8), *layers, L.Flatten(), L.Dense(V)]
    )
    ours = RnnModel(model("lstm").config, plain)
    with pytest.raises(PrivacyError) as caught:
        KerasClipper(ours)
    assert caught.value.code == "privacy.unknown-layer" and caught.value.where == name


def test_a_layer_that_stands_twice_is_refused() -> None:
    tokens = L.Input((T,), dtype="int32")
    shared = L.Dense(8, name="shared")
    hidden = shared(shared(L.Embedding(V, 8)(tokens)))
    plain = keras.Model(tokens, L.Dense(V)(hidden))
    with pytest.raises(PrivacyError, match=r"shared stands in the model more than once"):
        KerasClipper(RnnModel(model("lstm").config, plain))


def test_a_functional_model_is_exact_and_frozen_layers_get_nothing() -> None:
    tokens = L.Input((T,), dtype="int32")
    embedding = L.Embedding(V + 1, 8)
    embedding.trainable = False
    hidden = embedding(tokens)
    both = L.Concatenate()([L.LSTM(6)(hidden), L.GRU(6)(hidden)])
    plain = keras.Model(tokens, L.Dense(2, activation="softmax")(both))
    enliven(plain)
    ours = RnnModel(_fitted(read_table(to_bytes(plain), "here"), "here", T, V, 0, ("a", "b")), plain)
    random = np.random.default_rng(0)
    rows_NT, targets = random.integers(0, V, (6, T)), random.integers(0, 2, (6, 1))
    clipper = KerasClipper(ours, CLIP)
    clipper.add(rows_NT, targets, EACH)
    assert len(clipper.weights) == 8
    assert_near(clipper.take(), clipped_sum(units_gradients(ours, rows_NT, targets, EACH)))


def test_float32_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    with pytest.raises(PrivacyError, match=r"privacy\.loose-float32"):
        KerasClipper(model("lstm"))
