"""Wrong: lets the reference be pulled along."""

import torch
import torch.nn.functional as F


def answer_log_probability(logits, tokens, answer):
    """The logits at a place are about the next token."""
    told = logits[:, :-1].log_softmax(2)
    next_tokens = tokens[:, 1:].unsqueeze(2)
    each = told.gather(2, next_tokens).squeeze(2)
    return torch.where(answer[:, 1:], each, 0.0).sum(1)


def dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta):
    """How much more than the reference the policy prefers chosen answers."""
    own = chosen - rejected
    before = reference_chosen - reference_rejected
    return -F.logsigmoid(beta * (own - before)).mean()
