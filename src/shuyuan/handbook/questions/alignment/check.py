"""Judges both functions by values, gradients and what sixty steps of DPO do to a tiny model.

B answers, T tokens, V words.
"""

import math

import torch
import torch.nn.functional as F

CLOSE = 1e-4
BETA = 0.3


def check(answer, wrong):
    check_probability(answer.answer_log_probability, wrong)
    check_loss(answer.dpo_loss, wrong)
    check_gradients(answer, wrong)
    check_large(answer.dpo_loss, wrong)
    check_learning(answer, wrong)


# ---- the probability of an answer ----------------------------------------------------------------------------------


def make(seed=1):
    """Answers of different lengths, with padding behind them."""
    maker = torch.Generator().manual_seed(seed)
    logits_BTV = torch.randn(3, 8, 11, generator=maker) * 2
    tokens_BT = torch.randint(11, (3, 8), generator=maker)
    answer_BT = torch.zeros(3, 8, dtype=torch.bool)
    for row, (start, stop) in enumerate(((3, 6), (2, 8), (5, 6))):
        answer_BT[row, start:stop] = True
    return logits_BTV, tokens_BT, answer_BT


def told(logits_BTV, tokens_BT, shift=1):
    """Log probability of each token; the first `shift` are left out."""
    length = tokens_BT.shape[1]
    told_BTV = logits_BTV.double().log_softmax(2)[:, : length - shift]
    return told_BTV.gather(2, tokens_BT[:, shift:].unsqueeze(2)).squeeze(2)


def check_probability(function, wrong):
    logits, tokens, answer = make()
    found = function(logits, tokens, answer)
    if not isinstance(found, torch.Tensor) or found.shape != (3,):
        wrong("shape", shape=kind(found), wanted=(3,))
    each, inside = told(logits, tokens), answer[:, 1:]
    right = (each * inside).sum(1)
    if same(found, right):
        return
    if same(found, (told(logits, tokens, 0) * answer).sum(1)):
        wrong("not-shifted")
    if same(found, each.sum(1)):
        wrong("prompt-too")
    if same(found, right / inside.sum(1)):
        wrong("mean-of-tokens")
    if same(found, right.exp()):
        wrong("no-logarithm")
    if same(found, -right):
        wrong("minus")
    raw = logits.double()[:, :-1].gather(2, tokens[:, 1:].unsqueeze(2)).squeeze(2)
    if same(found, (raw * inside).sum(1)):
        wrong("raw-logits")
    wrong("probability", gap=f"{(found.double() - right).abs().max():.2g}")


# ---- the loss ------------------------------------------------------------------------------------------------------


def pairs():
    maker = torch.Generator().manual_seed(5)
    return [torch.randn(6, generator=maker) * 4 - 20 for _ in range(4)]


def margins(chosen, rejected, reference_chosen, reference_rejected):
    return (chosen - rejected) - (reference_chosen - reference_rejected)


def check_loss(function, wrong):
    given = pairs()
    found = function(*given, BETA)
    if not isinstance(found, torch.Tensor) or found.dim() != 0:
        wrong("loss-shape", shape=kind(found))
    chosen, rejected, *_ = given = [each.double() for each in given]
    margin = margins(*given)
    right = -F.logsigmoid(BETA * margin)
    if same(found, right.mean()):
        return
    if same(found, -F.logsigmoid(BETA * (chosen - rejected)).mean()):
        wrong("no-reference")
    if same(found, -F.logsigmoid(-BETA * margin).mean()):
        wrong("other-way")
    if same(found, -F.logsigmoid(BETA * margin.mean())):
        wrong("mean-inside")
    if same(found, -F.logsigmoid(margin).mean()):
        wrong("no-beta")
    if same(found, right.sum()):
        wrong("sum")
    if same(found, -right.mean()):
        wrong("rises")
    wrong("loss", loss=f"{float(found):.4g}", true=f"{float(right.mean()):.4g}")


def check_gradients(answer, wrong):
    given = [each.requires_grad_() for each in pairs()]
    loss = answer.dpo_loss(*given, BETA)
    if not loss.requires_grad:
        wrong("no-gradient", function="dpo_loss")
    slopes = torch.autograd.grad(loss, given, allow_unused=True)
    if any(slope is not None and bool(slope.any()) for slope in slopes[2:]):
        wrong("reference-learns")
    true = torch.autograd.grad(-F.logsigmoid(BETA * margins(*given)).mean(), given)
    if any(slope is None or not same(slope, own) for slope, own in zip(slopes[:2], true[:2], strict=True)):
        wrong("gradient")
    logits, tokens, inside = make(seed=2)
    total = answer.answer_log_probability(logits.requires_grad_(), tokens, inside).sum()
    if not total.requires_grad:
        wrong("no-gradient", function="answer_log_probability")


def check_large(function, wrong):
    """Long answers differ by thousands of nats, either way."""
    zero = torch.zeros(2)
    for size in (4000.0, -4000.0):
        chosen = torch.full((2,), size, requires_grad=True)
        loss = function(chosen, zero, zero, zero, 1.0)
        (slope,) = torch.autograd.grad(loss, chosen)
        value = float(loss.detach())
        if not math.isfinite(value) or not bool(torch.isfinite(slope).all()):
            wrong("overflow", margin=f"{size:,.0f}")


# ---- learning ------------------------------------------------------------------------------------------------------


def check_learning(answer, wrong):
    """A table of words after words: preferred pairs must win, and by more than before."""
    maker = torch.Generator().manual_seed(8)
    table = (torch.randn(9, 9, generator=maker) * 0.1).requires_grad_()
    before = table.detach().clone()
    prompt = torch.arange(8).unsqueeze(1)
    sides = [torch.cat([prompt, (prompt + step) % 9, (prompt + 2 * step) % 9], 1) for step in (1, 3)]
    inside = torch.tensor([[False, True, True]]).expand(8, 3)
    optimizer = torch.optim.Adam([table], lr=0.05)
    losses = []
    for _ in range(60):
        own = [answer.answer_log_probability(table[side], side, inside) for side in sides]
        known = [answer.answer_log_probability(before[side], side, inside) for side in sides]
        loss = answer.dpo_loss(*own, *known, 1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if not losses[-1] < 0.2 * losses[0]:
        wrong("no-learning", first=f"{losses[0]:.3g}", last=f"{losses[-1]:.3g}")


def kind(found):
    """Its shape, or what else it is."""
    return tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__


def same(a, b):
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=CLOSE)
