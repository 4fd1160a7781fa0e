"""A recurrent network in TensorFlow, from the text to its perplexity."""

import keras  # noqa: F401
import numpy as np  # noqa: F401


def make_windows(ids, length):
    """Cuts a text into windows, as many as fit, one after the other without overlap.

    Args:
        ids: token ids of the text, int32 (N,).
        length: tokens a window.

    Returns:
        inputs and targets, both (windows, length): at each position the target
        is the token that follows the input. Only windows that have a target at
        every position count.
    """
    raise NotImplementedError


def build_network(vocabulary, width):
    """An Embedding, one SimpleRNN and a Dense layer, compiled.

    Args:
        vocabulary: how many token ids there are.
        width: of the embedding and of the recurrent layer.

    Returns:
        A keras.Model: int32 ids (B, T) of any length T in, one logit for each
        next token (B, T, vocabulary) out; compiled with Adam and the mean
        cross entropy of these logits, for targets that are ids (B, T).
    """
    raise NotImplementedError


def train(model, inputs, targets, epochs):
    """Trains a compiled model with fit.

    Args:
        model: as above, or any other compiled one of that kind.
        inputs, targets: as above.
        epochs: how often all windows are seen.

    Returns:
        The mean loss of each epoch, in order: a list of Python floats.
    """
    raise NotImplementedError


def perplexity(model, inputs, targets):
    """The exponential of the mean loss over all tokens, in nats.

    Args:
        model: compiled; may hold dropout.
        inputs, targets: as above, any number of windows.

    Returns:
        A Python float, 1 or more. The model is as it was before.
    """
    raise NotImplementedError
