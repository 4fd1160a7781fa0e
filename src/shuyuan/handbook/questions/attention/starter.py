"""Causal attention with grouped heads, and the same in blocks of keys."""

import torch  # noqa: F401


def attention(q, k, v):
    """Each token reads itself and all tokens before it.

    Args:
        q: queries (batch, heads, tokens, size).
        k, v: keys and values (batch, kv_heads, tokens, size). heads is a
            multiple of kv_heads; neighbouring query heads share one of them:
            of 4 heads and 2 kv_heads, 0 and 1 read the first, 2 and 3 the second.

    Returns:
        (batch, heads, tokens, size): for each token the mean of the values,
        weighted by the softmax of q · k / sqrt(size).
    """
    raise NotImplementedError


def attention_in_blocks(q, k, v, block):
    """The same, but keys and values are read in blocks, one after the other.

    Args:
        q, k, v: as above.
        block: keys that are read at once; it need not divide the tokens.

    Returns:
        What `attention` returns. No tensor on the way may hold a number for each
        pair of tokens; one for each token and each key of a block is allowed.
    """
    raise NotImplementedError
