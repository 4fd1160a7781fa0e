"""Judges both functions by their values, their gradients, and the largest tensor that they make.

B batch, H heads, K key-value heads, T tokens, D size of a head.
"""

import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CLOSE = 1e-4
SHAPES = ((2, 4, 4, 7, 8), (1, 6, 2, 9, 4), (1, 4, 1, 5, 16))
BLOCKS = (1, 4, 7, 9, 64)


def check(answer, wrong):
    for shape in SHAPES:
        check_values(answer.attention, shape, wrong)
    check_gradients(answer.attention, wrong)
    for block in BLOCKS:
        check_blocks(answer.attention_in_blocks, block, wrong)
    check_large_scores(answer, wrong)
    check_memory(answer.attention_in_blocks, wrong)


def make(shape, seed=1):
    batch, heads, kv_heads, tokens, size = shape
    maker = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, heads, tokens, size, generator=maker) * 2
    k, v = (torch.randn(batch, kv_heads, tokens, size, generator=maker) for _ in range(2))
    return q, k, v


def reference(q, k, v, *, scale=None, offset=1, along=3, tiled=False):
    """In float64; the keywords make the known mistakes."""
    q, k, v = (each.double() for each in (q, k, v))
    groups, tokens = q.shape[1] // k.shape[1], q.shape[2]
    if tiled:
        k, v = (each.repeat(1, groups, 1, 1) for each in (k, v))
    else:
        k, v = (each.repeat_interleave(groups, 1) for each in (k, v))
    scores = q @ k.transpose(2, 3) * (q.shape[3] ** -0.5 if scale is None else scale)
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(offset)
    return scores.masked_fill(future, -math.inf).softmax(along) @ v


# ---- attention -----------------------------------------------------------------------------------------------------


def check_values(attention, shape, wrong):
    q, k, v = make(shape)
    kept = [each.clone() for each in (q, k, v)]
    found = attention(q, k, v)
    if not all(torch.equal(a, b) for a, b in zip((q, k, v), kept, strict=True)):
        wrong("changes-arguments")
    if not isinstance(found, torch.Tensor) or found.shape != q.shape:
        wrong("shape", shape=kind(found), wanted=tuple(q.shape))
    if same(found, reference(q, k, v)):
        return
    name_mistake(found, q, k, v, wrong)


def name_mistake(found, q, k, v, wrong):
    size, tokens = q.shape[3], q.shape[2]
    if same(found, reference(q, k, v, offset=tokens)):
        wrong("sees-the-future")
    if same(found[:, :, 1:], reference(q, k, v, offset=0)[:, :, 1:]):
        wrong("not-itself")
    if same(found, reference(q, k, v, scale=1.0)):
        wrong("no-scale")
    if same(found, reference(q, k, v, scale=1 / size)):
        wrong("scale-without-root", size=size)
    if same(found, reference(q, k, v, tiled=True)):
        wrong("groups")
    if same(found, reference(q, k, v, along=2)):
        wrong("softmax-axis")
    if same(found, masked_after(q, k, v)):
        wrong("mask-after-softmax")
    wrong("values", gap=f"{(found.double() - reference(q, k, v)).abs().max():.2g}")


def masked_after(q, k, v):
    """The weights of all tokens, with those of later ones set to zero: they do not add up to 1."""
    groups = q.shape[1] // k.shape[1]
    k, v = (each.double().repeat_interleave(groups, 1) for each in (k, v))
    return (q.double() @ k.transpose(2, 3) * q.shape[3] ** -0.5).softmax(3).tril() @ v


def check_gradients(attention, wrong):
    """Of a weighted sum of the outputs, for all three arguments."""
    arguments = [each.requires_grad_() for each in make(SHAPES[1], seed=2)]
    weights = torch.randn(arguments[0].shape, generator=torch.Generator().manual_seed(4))
    true = torch.autograd.grad((reference(*arguments) * weights).sum(), arguments)
    total = (attention(*arguments) * weights).sum()
    if not total.requires_grad:
        wrong("no-gradient")
    found = torch.autograd.grad(total, arguments, allow_unused=True)
    for name, one, other in zip("qkv", found, true, strict=True):
        if one is None or not same(one, other):
            wrong("gradient", name=name)


# ---- in blocks -----------------------------------------------------------------------------------------------------


def check_blocks(attention_in_blocks, block, wrong):
    q, k, v = make(SHAPES[1], seed=5)
    q = q * 3  # so that the largest score rises far from block to block
    found = attention_in_blocks(q, k, v, block)
    if not isinstance(found, torch.Tensor) or found.shape != q.shape:
        wrong("blocks-shape", shape=kind(found), wanted=tuple(q.shape))
    true = reference(q, k, v)
    if same(found, true):
        return
    if not torch.isfinite(found).all():
        wrong("blocks-not-finite", block=block)
    if same(found, blockwise(q, k, v, block, "mean")):
        wrong("softmax-of-blocks", block=block)
    if same(found, blockwise(q, k, v, block, "unshrunk")):
        wrong("not-shrunk", block=block)
    whole = q.shape[2] // block * block
    if whole < q.shape[2] and same(found[:, :, :whole], true[:, :, :whole]):
        wrong("rest-left-out", block=block, tokens=q.shape[2])
    wrong("blocks-differ", block=block, gap=f"{(found.double() - true).abs().max():.2g}")


def blockwise(q, k, v, block, mistake):
    """What comes of two ways to put blocks together wrongly."""
    tokens, groups = q.shape[2], q.shape[1] // k.shape[1]
    q = q.double()
    k, v = (each.double().repeat_interleave(groups, 1) for each in (k, v))
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    scores = (q @ k.transpose(2, 3) * q.shape[3] ** -0.5).masked_fill(future, -math.inf)
    pieces = [(scores[..., i : i + block], v[:, :, i : i + block]) for i in range(0, tokens, block)]
    if mistake == "mean":
        each = torch.stack([piece.softmax(3).nan_to_num(0.0) @ values for piece, values in pieces])
        seen = torch.arange(tokens).view(-1, 1) // block + 1  # blocks with a key that the token may read
        return each.sum(0) / seen
    top, mixed, total = torch.full_like(q[..., :1], -math.inf), 0.0, 0.0
    for piece, values in pieces:
        top = torch.maximum(top, piece.amax(3, keepdim=True))
        weights = (piece - top).exp()
        mixed, total = mixed + weights @ values, total + weights.sum(3, keepdim=True)
    return mixed / total


def check_large_scores(answer, wrong):
    """Scores of several hundreds: their exponentials do not fit float32 unless the largest is taken off first."""
    q, k, v = make((1, 2, 2, 6, 8), seed=6)
    q = q * 200
    found = {
        "attention": answer.attention(q, k, v),
        "attention_in_blocks": answer.attention_in_blocks(q, k, v, 2),
    }
    for name, values in found.items():
        if not same(values, reference(q, k, v), within=1e-2):
            wrong("overflow", function=name)


class Largest(TorchDispatchMode):
    """Notes the most numbers that any tensor of an operation holds."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.numbers = max(self.numbers, leaf.untyped_storage().nbytes() // leaf.element_size())
        return result


def check_memory(attention_in_blocks, wrong):
    tokens, block = 256, 8
    q, k, v = make((1, 2, 1, tokens, 4), seed=7)
    with Largest() as largest:
        attention_in_blocks(q, k, v, block)
    if largest.numbers >= tokens * tokens:
        made, enough = f"{largest.numbers:,}", f"{2 * tokens * block:,}"
        wrong("keeps-a-square", numbers=made, tokens=tokens, block=block, enough=enough)


def kind(found):
    """Its shape, or what else it is."""
    return tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__


def same(a, b, within=CLOSE):
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=within)
