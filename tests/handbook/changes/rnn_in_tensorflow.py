"""The checker of the recurrent network accepts every right way and names many more mistakes than the shipped variants."""

from __future__ import annotations

from . import Changes

BY_STRIDES = [
    ("    inputs = ids[: count * length].reshape(count, length)\n"
     "    targets = ids[1 : count * length + 1].reshape(count, length)\n    return inputs, targets",
     "    windows = np.stack([ids[i * length : (i + 1) * length + 1] for i in range(count)])\n"
     "    return windows[:, :-1], windows[:, 1:]"),
]  # fmt: skip
SMALL_BATCHES = [("epochs=epochs, verbose=0", "epochs=epochs, batch_size=8, verbose=0")]
ANOTHER_METRIC = [("loss=loss)", 'loss=loss, metrics=["accuracy"])'),
                  ("    loss = model.evaluate(inputs, targets, verbose=0)", "    loss = np.atleast_1d(model.evaluate(inputs, targets, verbose=0))[0]")]  # fmt: skip


RIGHT: dict[str, Changes] = {
    "strides": BY_STRIDES,
    "batches": SMALL_BATCHES,
    "metric": ANOTHER_METRIC,
}


TARGETS = "ids[1 : count * length + 1].reshape(count, length)"
RETURNED = "return inputs, targets"
DENSE = "            keras.layers.Dense(vocabulary),\n"
TOLD = "return float(np.exp(loss))"
FITTED = 'return history.history["loss"]'
# What is seen before anything is computed by Keras.
WINDOWS: dict[str, Changes] = {
    "windows-type": [(RETURNED, "return inputs")],
    "last-only": [(RETURNED, "return inputs, targets[:, -1]")],
    "overlap": [(RETURNED, "return tuple(np.stack([ids[i + j : i + j + length] for i in range(len(ids) - length)]) for j in (0, 1))")],
    "windows-shape": [("(len(ids) - 1) // length", "len(ids) // length - 1")],
    "not-shifted": [(TARGETS, "inputs")],
    "shifted-back": [(TARGETS, "inputs - 1")],
    "rolled": [(TARGETS, "np.roll(inputs, -1, 1)")],
    "other-windows": [(RETURNED, "return inputs[::-1], targets")],
}  # fmt: skip
MODELS: dict[str, Changes] = {
    "no-model": [("    return model\n", "    return model.layers\n")],
    "logits-shape": [(DENSE, DENSE.replace("vocabulary", "vocabulary + 1"))],
    "other-cell": [("SimpleRNN", "LSTM")],
    "other-shapes": [("SimpleRNN(width,", "SimpleRNN(width + 1,")],
    "other-network": [("return_sequences=True", 'return_sequences=True, activation="relu"')],
    "one-length": [("Input((None,)", "Input((5,)"), (DENSE, DENSE + "            keras.layers.Reshape((5, vocabulary)),\n")],
    "not-compiled": [('    model.compile(optimizer="adam", loss=loss)\n', "")],
    "loss-of-logits": [("from_logits=True", "from_logits=False")],
}  # fmt: skip
TRAINING: dict[str, Changes] = {
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

MISTAKES: dict[str, Changes] = WINDOWS | MODELS | TRAINING
SLOW = {"solution", *RIGHT, *MODELS, *TRAINING, "loss-of-logits", "mean-of-exponentials"}
