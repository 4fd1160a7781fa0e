"""Wrong: computes all scores first and cuts them into blocks afterwards: the same values, and none of the memory is saved."""

import math

import torch


def attention(q, k, v):
    """Head h reads the keys and values of head h // (heads / kv_heads)."""
    heads, tokens, size = q.shape[1:]
    k = k.repeat_interleave(heads // k.shape[1], 1)
    v = v.repeat_interleave(heads // v.shape[1], 1)
    scores = q @ k.transpose(2, 3) / math.sqrt(size)
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -math.inf).softmax(3) @ v


def attention_in_blocks(q, k, v, block):
    """When a larger score comes, the sums of the earlier ones shrink."""
    heads, tokens, size = q.shape[1:]
    k = k.repeat_interleave(heads // k.shape[1], 1)
    v = v.repeat_interleave(heads // v.shape[1], 1)
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    all_scores = (q @ k.transpose(2, 3) / math.sqrt(size)).masked_fill(future, -math.inf)
    top = q.new_full((*q.shape[:3], 1), -math.inf)
    total = q.new_zeros((*q.shape[:3], 1))
    mixed = torch.zeros_like(q)
    for start in range(0, tokens, block):
        scores, values = all_scores[..., start : start + block], v[:, :, start : start + block]
        higher = torch.maximum(top, scores.amax(3, keepdim=True))
        weights, shrink = (scores - higher).exp(), (top - higher).exp()
        total = total * shrink + weights.sum(3, keepdim=True)
        mixed = mixed * shrink + weights @ values
        top = higher
    return mixed / total
