"""Wrong: the targets are the inputs, so that the network learns to repeat what it reads."""

import keras
import numpy as np


def make_windows(ids, length):
    """Each position has a target."""
    count = (len(ids) - 1) // length
    inputs = ids[: count * length].reshape(count, length)
    targets = inputs.copy()
    return inputs, targets


def build_network(vocabulary, width):
    """Logits leave the last layer; the loss knows it."""
    model = keras.Sequential(
        [
            keras.layers.Input((None,), dtype="int32"),
            keras.layers.Embedding(vocabulary, width),
            keras.layers.SimpleRNN(width, return_sequences=True),
            keras.layers.Dense(vocabulary),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss)
    return model


def train(model, inputs, targets, epochs):
    """Keras weighs the batches of an epoch by their size."""
    history = model.fit(inputs, targets, epochs=epochs, verbose=0)
    return history.history["loss"]


def perplexity(model, inputs, targets):
    """The exponential of the mean loss, in that order."""
    loss = model.evaluate(inputs, targets, verbose=0)
    return float(np.exp(loss))
