"""Causal attention with grouped heads, and the same in blocks of keys."""

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
    place = torch.arange(tokens)
    top = q.new_full((*q.shape[:3], 1), -math.inf)
    total = q.new_zeros((*q.shape[:3], 1))
    mixed = torch.zeros_like(q)
    for start in range(0, tokens, block):
        now = slice(start, start + block)
        keys, values = k[:, :, now], v[:, :, now]
        scores = q @ keys.transpose(2, 3) / math.sqrt(size)
        future = place[now] > place[:, None]
        scores = scores.masked_fill(future, -math.inf)
        higher = torch.maximum(top, scores.amax(3, keepdim=True))
        weights, shrink = (scores - higher).exp(), (top - higher).exp()
        total = total * shrink + weights.sum(3, keepdim=True)
        mixed = mixed * shrink + weights @ values
        top = higher
    return mixed / total
