"""Preferences learned directly: the loss of DPO."""

import torch  # noqa: F401


def answer_log_probability(logits, tokens, answer):
    """How likely a model holds each answer, given its prompt.

    Args:
        logits: (batch, tokens, words), what the model says after it has read
            each token, so that it is about the next one.
        tokens: (batch, tokens), prompt, answer and padding, as ids.
        answer: (batch, tokens), True where a token belongs to the answer; never
            at the first place.

    Returns:
        (batch,): the natural logarithm of the probability of the whole answer.
    """
    raise NotImplementedError


def dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta):
    """The loss of DPO over a batch of pairs.

    Args:
        chosen, rejected: (batch,) log probabilities of the better and the worse
            answer by the model that learns.
        reference_chosen, reference_rejected: the same by the model that it began
            as; that one learns nothing.
        beta: how much a log ratio weighs.

    Returns:
        A scalar: the mean over pairs of -log sigmoid(beta * margin), where the
        margin is how much more than the reference the model prefers the chosen
        answer. It must be finite for margins of several thousands.
    """
    raise NotImplementedError
