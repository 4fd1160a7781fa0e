"""What is trained computes what Keras' own layers compute: outputs, gradients, masks and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shuyuan.errors import ShuyuanError
from shuyuan.models.working import Both, Recurrent, working

from .recurrent_models import T, V, enliven, keras, model, rows, tf

L = keras.layers
SHAPES: list[dict[str, Any]] = [
    {"cell": "lstm"},
    {"cell": "gru"},
    {"cell": "simple", "predict": "last"},
    {"cell": "lstm", "labels": ("a", "b"), "bidirectional": True},
    {"cell": "gru", "labels": ("a", "b", "c"), "bidirectional": True},
    {"cell": "simple", "labels": ("a", "b")},
]


def gradients(
    network: Any, plain: Any, inputs: Any, targets: Any, *, is_logits: bool
) -> tuple[float, list[Any]]:
    """The loss and its gradients, of probabilities or of logits."""
    with tf.GradientTape() as tape:
        out = network(inputs, training=True)
        logs = tf.nn.log_softmax(out) if is_logits else tf.math.log(out)
        loss = -tf.reduce_sum(tf.gather(logs, targets, batch_dims=targets.ndim))
    found = tape.gradient(loss, [weight.value for weight in plain.trainable_variables])
    return float(loss), [tf.convert_to_tensor(gradient).numpy() for gradient in found]


@pytest.mark.parametrize("changes", SHAPES, ids=lambda changes: f"{changes['cell']}-{len(changes)}")
def test_outputs_and_gradients_are_those_of_keras(changes: dict[str, Any]) -> None:
    ours = model(**changes)
    inputs, targets = rows(ours.config)
    x, y = ours.inputs(inputs), np.maximum(ours.targets(targets), 0)
    y = y[:, 0] if y.shape[-1] == 1 else y
    wanted_loss, wanted = gradients(ours.plain, ours.plain, x, y, is_logits=False)
    loss, found = gradients(working(ours.plain), ours.plain, x, y, is_logits=True)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    for gradient, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(gradient, other, atol=2e-5 * np.abs(other).max())


def given(*layers: Any) -> Any:
    plain = keras.Sequential([L.Input((T,), dtype="int32"), L.Embedding(V, 8, mask_zero=True), *layers])
    enliven(plain)
    return plain


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [L.LSTM(6, go_backwards=True), L.Dense(3, activation="softmax")],
        lambda: [L.LSTM(6, use_bias=False, return_sequences=True), L.GRU(5), L.Dense(3, activation="softmax")],
        lambda: [L.GRU(6, return_sequences=True, zero_output_for_mask=True), L.SimpleRNN(4), L.Dense(3), L.Softmax()],
        lambda: [L.Bidirectional(L.LSTM(6, return_sequences=True), merge_mode="sum"), L.LSTM(4), L.Dense(3, activation="softmax")],
        lambda: [L.Bidirectional(L.GRU(6), merge_mode="ave"), L.Dense(3, activation="softmax")],
        lambda: [L.Bidirectional(L.SimpleRNN(6), merge_mode="mul"), L.Dense(3), L.Activation("softmax")],
    ],
)  # fmt: skip
def test_options_and_masks_mean_what_they_mean_to_keras(layers: Any) -> None:
    plain = given(*layers())
    x = np.random.default_rng(1).integers(0, V, (5, T)).astype(np.int32)
    x[0, 4:] = x[3, 7:] = 0  # what the mask hides
    y = np.array([0, 1, 2, 1, 0])
    wanted_loss, wanted = gradients(plain, plain, x, y, is_logits=False)
    loss, found = gradients(working(plain), plain, x, y, is_logits=True)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    for gradient, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(gradient, other, atol=3e-5 * max(1e-3, np.abs(other).max()))


def test_a_functional_model_works_as_a_sequential_one() -> None:
    tokens = L.Input((T,), dtype="int32")
    embedded = L.Embedding(V, 8)(tokens)
    both = L.Concatenate()([L.LSTM(6)(embedded), L.GRU(6)(embedded)])
    plain = keras.Model(tokens, L.Dense(3, activation="softmax")(both))
    enliven(plain)
    x, y = np.random.default_rng(1).integers(0, V, (5, T)), np.array([0, 1, 2, 1, 0])
    wanted_loss, wanted = gradients(plain, plain, x, y, is_logits=False)
    loss, found = gradients(working(plain), plain, x, y, is_logits=True)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    for gradient, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(gradient, other, atol=2e-5 * np.abs(other).max())


def test_dropout_inside_a_layer_draws_what_keras_draws() -> None:
    plain = given(L.LSTM(6, dropout=0.5, seed=7), L.Dense(3, activation="softmax"))
    x = np.random.default_rng(1).integers(1, V, (5, T)).astype(np.int32)
    fast = working(plain)
    start = plain.layers[1].cell.seed_generator.state.numpy()
    wanted = plain(x, training=True).numpy()
    plain.layers[1].cell.seed_generator.state.assign(start)
    np.testing.assert_allclose(tf.nn.softmax(fast(x, training=True)).numpy(), wanted, rtol=1e-4)
    plain.layers[1].cell.seed_generator.state.assign(start)
    still = plain(x, training=False).numpy()
    np.testing.assert_allclose(tf.nn.softmax(fast(x, training=False)).numpy(), still, rtol=1e-4)
    assert np.abs(wanted - still).max() > 1e-3


def test_what_is_rarely_used_is_left_to_keras() -> None:
    rare = [L.LSTM(6, recurrent_dropout=0.1, return_sequences=True), L.GRU(6, reset_after=False, return_sequences=True),
            L.LSTM(6, activation="relu", return_sequences=True), L.Bidirectional(L.LSTM(6, activation="relu"))]  # fmt: skip
    plain = given(*rare, L.Dense(3, activation="softmax"))
    kinds = [type(layer) for layer in working(plain).layers]
    assert Recurrent not in kinds and Both not in kinds
    x = np.random.default_rng(1).integers(1, V, (5, T)).astype(np.int32)
    np.testing.assert_allclose(tf.nn.softmax(working(plain)(x)).numpy(), plain(x).numpy(), rtol=1e-4)


def test_bf16_is_near_float32_and_leaves_the_layers_as_they_were() -> None:
    ours = model("lstm")
    inputs, targets = rows(ours.config)
    exact = ours.loss(inputs, targets)
    ours.compute_in("bf16")
    rounded = ours.loss(inputs, targets)
    assert rounded != exact and rounded == pytest.approx(exact, rel=0.01)
    ours.compute_in(None)
    assert ours.loss(inputs, targets) == exact
    assert all(layer.dtype_policy.name == "float32" for layer in ours.plain.layers)


def test_an_end_that_is_no_softmax_is_refused_by_name() -> None:
    plain = given(L.LSTM(6), L.Dense(3, activation="sigmoid", name="odd"))
    with pytest.raises(ShuyuanError, match=r"odd.*models\.other-output"):
        working(plain)
