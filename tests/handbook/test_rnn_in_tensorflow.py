"""The checker of the recurrent network accepts every right way and names many more mistakes than the shipped variants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .checkers import HintFor, checker_of

pytest.importorskip("keras")


@pytest.fixture(scope="module")
def hint_for() -> Iterator[HintFor]:
    with checker_of("rnn-in-tensorflow", "make_windows", "build_network", "train", "perplexity") as found:
        yield found


BY_STRIDES = [
    ("    inputs = ids[: count * length].reshape(count, length)\n"
     "    targets = ids[1 : count * length + 1].reshape(count, length)\n    return inputs, targets",
     "    windows = np.stack([ids[i * length : (i + 1) * length + 1] for i in range(count)])\n"
     "    return windows[:, :-1], windows[:, 1:]"),
]  # fmt: skip
SMALL_BATCHES = [("epochs=epochs, verbose=0", "epochs=epochs, batch_size=8, verbose=0")]
ANOTHER_METRIC = [("loss=loss)", 'loss=loss, metrics=["accuracy"])'),
                  ("    loss = model.evaluate(inputs, targets, verbose=0)", "    loss = np.atleast_1d(model.evaluate(inputs, targets, verbose=0))[0]")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [[], BY_STRIDES, SMALL_BATCHES, ANOTHER_METRIC],
    ids=["solution", "strides", "batches", "metric"],
)
def test_right_ways_pass(hint_for: HintFor, changes: list[tuple[str, str]]) -> None:
    assert hint_for(*changes) is None


TARGETS = "ids[1 : count * length + 1].reshape(count, length)"
RETURNED = "return inputs, targets"
DENSE = "            keras.layers.Dense(vocabulary),\n"
LOSS = "    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)\n"
TOLD = "return float(np.exp(loss))"
FITTED = 'return history.history["loss"]'
# What is seen before anything is computed by Keras.
WINDOWS = {
    "windows-type": [(RETURNED, "return inputs")],
    "last-only": [(RETURNED, "return inputs, targets[:, -1]")],
    "overlap": [(RETURNED, "return tuple(np.stack([ids[i + j : i + j + length] for i in range(len(ids) - length)]) for j in (0, 1))")],
    "windows-shape": [("(len(ids) - 1) // length", "len(ids) // length - 1")],
    "not-shifted": [(TARGETS, "inputs")],
    "shifted-back": [(TARGETS, "inputs - 1")],
    "rolled": [(TARGETS, "np.roll(inputs, -1, 1)")],
    "other-windows": [(RETURNED, "return inputs[::-1], targets")],
}  # fmt: skip
MODELS = {
    "no-model": [("    return model\n", "    return model.layers\n")],
    "no-sequences": [(", return_sequences=True", "")],
    "logits-shape": [(DENSE, DENSE.replace("vocabulary", "vocabulary + 1"))],
    "softmax-twice": [(DENSE, DENSE.replace("vocabulary", 'vocabulary, activation="softmax"'))],
    "other-cell": [("SimpleRNN", "LSTM")],
    "other-shapes": [("SimpleRNN(width,", "SimpleRNN(width + 1,")],
    "other-network": [("return_sequences=True", 'return_sequences=True, activation="relu"')],
    "one-length": [("Input((None,)", "Input((5,)"), (DENSE, DENSE + "            keras.layers.Reshape((5, vocabulary)),\n")],
    "not-compiled": [('    model.compile(optimizer="adam", loss=loss)\n', "")],
    "one-hot-loss": [("SparseCategorical", "Categorical")],
    "loss-of-logits": [("from_logits=True", "from_logits=False")],
}  # fmt: skip
TRAINING = {
    "trains": [("    loss = model.evaluate", "    model.fit(inputs, targets, verbose=0)\n    loss = model.evaluate")],
    "perplexity-type": [(TOLD, "return np.exp(loss)[None]")],
    "loss-returned": [(TOLD, "return float(loss)")],
    "power-of-two": [(TOLD, "return float(2**loss)")],
    "mean-of-means": [("    loss = model.evaluate(inputs, targets, verbose=0)", "    loss = np.mean([model.evaluate(inputs[i : i + 32], targets[i : i + 32], verbose=0) for i in range(0, len(inputs), 32)])")],
    "mean-of-exponentials": [("    loss = model.evaluate(inputs, targets, verbose=0)", "    loss = np.log(np.mean([np.exp(model.evaluate(x[None], y[None], verbose=0)) for x, y in zip(inputs, targets)]))")],
    "with-dropout": [("    loss = model.evaluate(inputs, targets, verbose=0)", "    loss = float(keras.ops.mean(keras.losses.sparse_categorical_crossentropy(targets, model(inputs, training=True), from_logits=True)))")],
    "perplexity-value": [(TOLD, "return float(np.exp(loss)) * 1.1")],
    "no-step": [("    history = model.fit", "    weights = model.get_weights()\n    history = model.fit"), (FITTED, "model.set_weights(weights)\n    " + FITTED)],
    "losses-type": [(FITTED, "return history")],
    "losses-count": [(FITTED, 'return history.history["loss"][-1:]')],
    "other-losses": [(FITTED, 'return history.history["loss"][::-1]')],
    "no-learning": [(", return_sequences=True),", ", return_sequences=True, trainable=vocabulary < 9 and width < 32),"), ('optimizer="adam"', 'optimizer="adam" if width < 32 else keras.optimizers.Adam(1e-6)')],
}  # fmt: skip


@pytest.mark.parametrize("hint", WINDOWS)
def test_mistakes_in_windows_are_named(hint_for: HintFor, hint: str) -> None:
    assert hint_for(*WINDOWS[hint]) == hint


@pytest.mark.slow
@pytest.mark.parametrize("hint", MODELS | TRAINING)
def test_mistakes_are_named(hint_for: HintFor, hint: str) -> None:
    assert hint_for(*(MODELS | TRAINING)[hint]) == hint


def test_every_hint_is_tried() -> None:
    from shuyuan.handbook import load_bank

    coding = load_bank()["rnn-in-tensorflow"].facts.coding
    assert coding is not None and coding.hints.keys() == (WINDOWS | MODELS | TRAINING).keys()
