"""Judges the three functions by values, gradients, the largest tensor made, and learning on tiny data.

O outputs, I inputs, R rank, B rows.
"""

import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CLOSE = 1e-4
OUTPUTS, INPUTS, RANK, ALPHA = 24, 40, 4, 6.0


def check(answer, wrong):
    check_start(answer.start, wrong)
    check_values(answer.forward, wrong)
    check_gradients(answer.forward, wrong)
    check_size(answer.forward, wrong)
    check_merged(answer.merged, wrong)
    check_learning(answer, wrong)


def make(seed=1):
    maker = torch.Generator().manual_seed(seed)
    sizes = ((2, 3, INPUTS), (OUTPUTS, INPUTS), (RANK, INPUTS), (OUTPUTS, RANK))
    return [torch.randn(*size, generator=maker) for size in sizes]


# ---- the start -----------------------------------------------------------------------------------------------------


def check_start(start, wrong):
    returned = start(OUTPUTS, INPUTS, RANK, torch.Generator().manual_seed(3))
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        wrong("start-type", what=type(returned).__name__)
    for name, one, wanted in zip("ab", returned, ((RANK, INPUTS), (OUTPUTS, RANK)), strict=True):
        if not isinstance(one, torch.Tensor) or one.shape != wanted or one.dtype != torch.float32:
            wrong("start-shape", name=name, shape=kind(one), wanted=wanted)
        if not one.requires_grad:
            wrong("start-frozen", name=name)
    a, b = (each.detach() for each in returned)
    if not a.any() and not b.any():
        wrong("both-zero")
    if (b @ a).abs().max() > 0:
        wrong("start-changes", size=f"{(b @ a).abs().max():.2g}")
    random = a if a.any() else b
    times = float(random.std()) * math.sqrt(INPUTS)
    if not 0.2 < times < 1.1:
        wrong("start-spread", times=f"{times:.2g}")
    again, other = (start(OUTPUTS, INPUTS, RANK, torch.Generator().manual_seed(seed)) for seed in (3, 4))
    if not torch.equal(again[0], a) or not torch.equal(again[1], b):
        wrong("other-randomness")
    if torch.equal(other[0], a) and torch.equal(other[1], b):
        wrong("same-randomness")


# ---- values and gradients ------------------------------------------------------------------------------------------


def reference(x, weight, a, b, scale=ALPHA / RANK):
    return x @ weight.T + x @ (b @ a * scale).T


def check_values(forward, wrong):
    for x, *others in (make(), [make(2)[0][0, 0], *make(2)[1:]]):
        found = forward(x, *others, ALPHA)
        true = reference(x, *others)
        if not isinstance(found, torch.Tensor) or found.shape != true.shape:
            wrong("shape", shape=kind(found), wanted=tuple(true.shape))
        if same(found, true):
            continue
        if same(found, reference(x, *others, scale=0.0)):
            wrong("not-added")
        if same(found, reference(x, *others) - reference(x, *others, scale=0.0)):
            wrong("weight-left-out")
        if same(found, reference(x, *others, scale=ALPHA)):
            wrong("not-by-rank")
        if same(found, reference(x, *others, scale=1.0)):
            wrong("no-scale")
        if same(found, reference(x, *others, scale=RANK / ALPHA)):
            wrong("scale-inverted")
        wrong("values", gap=f"{(found - true).abs().max():.2g}")


def check_gradients(forward, wrong):
    x, weight, a, b = (each.requires_grad_() for each in make(5))
    maker = torch.Generator().manual_seed(6)
    weights = torch.randn(2, 3, OUTPUTS, generator=maker)
    total = (forward(x, weight, a, b, ALPHA) * weights).sum()
    if not total.requires_grad:
        wrong("no-gradient", name="a")
    true = torch.autograd.grad((reference(x, weight, a, b) * weights).sum(), (x, a, b))
    found = torch.autograd.grad(total, (x, a, b, weight), allow_unused=True)
    if found[3] is not None and found[3].any():
        wrong("trains-weight")
    for name, one, other in zip("xab", found, true, strict=False):
        if one is None or not same(one, other):
            wrong("no-gradient", name=name)


class Largest(TorchDispatchMode):
    """Counts tensors that an operation makes anew and that hold as many numbers as the weight."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers, self.made = numbers, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(args) if torch.is_tensor(leaf)}
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if torch.is_tensor(leaf) and leaf.untyped_storage().data_ptr() not in given:
                self.made = max(self.made, leaf.numel())
        return result


def check_size(forward, wrong):
    _, weight, a, b = make(7)
    with Largest(weight.numel()) as largest:
        forward(torch.ones(1, INPUTS), weight, a, b, ALPHA)
    if largest.made >= weight.numel():
        wrong("makes-the-product", numbers=largest.made, outputs=OUTPUTS, inputs=INPUTS)


# ---- merged --------------------------------------------------------------------------------------------------------


def check_merged(merged, wrong):
    x, *others = make(8)
    kept = [each.clone() for each in others]
    found = merged(*others, ALPHA)
    if not all(torch.equal(one, other) for one, other in zip(others, kept, strict=True)):
        wrong("changes-weight")
    weight = others[0]
    if not isinstance(found, torch.Tensor) or found.shape != weight.shape:
        wrong("merged-shape", shape=kind(found), wanted=tuple(weight.shape))
    true = reference(x, *others)
    if same(x @ found.T, true):
        return
    if same(x @ found.T, reference(x, *others, scale=ALPHA)) or same(
        x @ found.T, reference(x, *others, scale=1.0)
    ):
        wrong("merged-scale")
    wrong("merged-differs", gap=f"{(x @ found.T - true).abs().max():.2g}")


# ---- learning ------------------------------------------------------------------------------------------------------


def check_learning(answer, wrong):
    """What was changed by a matrix of rank 1 can be learned; and merged it does the same."""
    x, weight, *_ = make(9)
    maker = torch.Generator().manual_seed(10)
    change = (
        torch.randn(OUTPUTS, 1, generator=maker) @ torch.randn(1, INPUTS, generator=maker) / math.sqrt(INPUTS)
    )
    target = x @ (weight + change).T
    a, b = answer.start(OUTPUTS, INPUTS, RANK, torch.Generator().manual_seed(11))
    optimizer = torch.optim.Adam([a, b], lr=0.03)
    losses = []
    for _ in range(150):
        loss = (answer.forward(x, weight, a, b, ALPHA) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if not losses[-1] < 0.05 * losses[0]:
        wrong("no-learning", first=f"{losses[0]:.3g}", last=f"{losses[-1]:.3g}")


def kind(found):
    """Its shape, or what else it is."""
    return tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__


def same(a, b):
    return a.shape == b.shape and torch.allclose(a.detach(), b.detach(), atol=CLOSE, rtol=CLOSE)
