"""A recurrent network in TensorFlow, from the text to its perplexity."""

import keras
import numpy as np


def make_windows(ids, length):
    """The target of each position is the id that follows it."""
    count = (len(ids) - 1) // length
    inputs = ids[: count * length].reshape(count, length)
    targets = ids[1 : count * length + 1].reshape(count, length)
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
