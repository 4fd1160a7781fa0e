"""Judges `train_step` by what it does to a tiny network: gradients, clipping, overflow, learning.

The network rounds to 16 bits on the way forward and back, as a GPU does in fp16, so scaling really matters here: the
gradient of its lower layer is zero without it. Plain SGD shows the gradient: it is what was
subtracted from each parameter, divided by the learning rate.

B sequences, T tokens, V words, W width.
"""

import math

import torch
import torch.nn.functional as F

VOCABULARY, WIDTH = 11, 8
SCALE = 16384.0
OVERFLOWING_SCALE = 2.0**30
NO_CLIP = 1e9
RATE = 2.0**20  # large, so that a tiny gradient still moves a parameter by more than its last bit
CLOSE = 0.02  # rounding to 16 bits and the order of sums move a gradient by less than this


class Round16(torch.autograd.Function):
    """Rounds to fp16 forward and backward: below 3e-8 nothing is left, above 65504 is infinity."""

    @staticmethod
    def forward(ctx, values):
        return values.half().float()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.half().float()


class Network(torch.nn.Module):
    """Embedding, tanh, head. A tiny head makes the gradient of the embedding tiny."""

    def __init__(self, head_size):
        super().__init__()
        maker = torch.Generator().manual_seed(7)
        self.lower = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.upper = torch.nn.Linear(WIDTH, VOCABULARY)
        with torch.no_grad():
            self.lower.weight.copy_(torch.randn(VOCABULARY, WIDTH, generator=maker))
            self.upper.weight.copy_(torch.randn(VOCABULARY, WIDTH, generator=maker) * head_size)
            self.upper.bias.zero_()

    def forward(self, tokens_BT):
        hidden_BTW = Round16.apply(torch.tanh(self.lower(tokens_BT)))
        return Round16.apply(self.upper(hidden_BTW))


def make_batches():
    """Three micro-batches with 12, 4 and 1 targets: a mean of their means is far from the mean over targets."""
    maker = torch.Generator().manual_seed(3)
    batches = []
    for learned in (12, 4, 1):
        tokens_BT = torch.randint(VOCABULARY, (2, 6), generator=maker)
        targets_BT = torch.randint(VOCABULARY, (2, 6), generator=maker)
        targets_BT.view(-1)[learned:] = -100
        batches.append((tokens_BT, targets_BT))
    return batches


def check(answer, wrong):
    batches = make_batches()
    check_gradient(answer.train_step, batches, wrong)
    check_clipping(answer.train_step, batches, wrong)
    check_overflow(answer.train_step, batches, wrong)
    check_learning(answer.train_step, batches, wrong)


# ---- the gradient of one step -------------------------------------------------------------------------------------


def check_gradient(train_step, batches, wrong):
    model = Network(1e-7)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    loss, stepped = judged_return(train_step(model, optimizer, batches, SCALE, NO_CLIP), wrong)
    first = moved(model, Network(1e-7))
    if not stepped:
        wrong("stepped-flag", said=False, was=True)
    name_gradient(first, batches, wrong)
    means = true_means(Network(1e-7), batches)
    counts = [int((targets_BT != -100).sum()) for _, targets_BT in batches]
    true_loss = sum(m * n for m, n in zip(means, counts, strict=True)) / sum(counts)
    if near(loss, true_loss * SCALE):
        wrong("loss-scaled")
    if not near(loss, true_loss):
        wrong("loss-value", loss=f"{loss:.4g}", true=f"{true_loss:.4g}")

    fresh = Network(1e-7)  # unscaled, what an earlier step left behind weighs as much as the new gradient
    train_step(fresh, torch.optim.SGD(fresh.parameters(), lr=RATE), batches, 1.0, NO_CLIP)
    model.load_state_dict(Network(1e-7).state_dict())
    train_step(model, optimizer, batches, 1.0, NO_CLIP)
    if not distance(moved(model, Network(1e-7)), moved(fresh, Network(1e-7))) < CLOSE:
        wrong("stale-gradients")


def name_gradient(gradient, batches, wrong):
    """Finds out which gradient the step used, and names the mistake."""
    per_batch = [true_gradient(batch) for batch in batches]
    counts = [int((targets_BT != -100).sum()) for _, targets_BT in batches]
    right = [sum(g[i] * n for g, n in zip(per_batch, counts, strict=True)) / sum(counts) for i in range(3)]
    if distance(gradient, right) < CLOSE:
        return
    if all(float(g.abs().max()) == 0 for g in gradient):
        wrong("no-step")
    if not all(bool(torch.isfinite(g).all()) for g in gradient):
        wrong("not-finite")
    upper, right_upper = gradient[1:], right[1:]
    means_upper = [sum(g[i] for g in per_batch) / len(batches) for i in (1, 2)]
    if parallel(upper, means_upper):
        wrong("mean-of-means")
    if parallel(upper, per_batch[-1][1:]):
        wrong("last-only")
    if parallel(upper, right_upper):
        unseen = float(gradient[0].abs().max()) == 0
        name_size(size(upper) / size(right_upper), unseen, near(size(upper), NO_CLIP), batches, wrong)
    wrong("wrong-gradient")


def name_size(times, lower_is_zero, is_normalised, batches, wrong):
    """The direction is right, but the gradient is `times` as large as it should be, or its small part is lost."""
    learned = sum(int((targets_BT != -100).sum()) for _, targets_BT in batches)
    positions = sum(targets_BT.numel() for _, targets_BT in batches)
    if is_normalised:
        wrong("clip-enlarges")
    if near(times, SCALE):
        wrong("not-unscaled")
    if near(times, 1.0) and lower_is_zero:
        wrong("not-scaled")
    if near(times, 1 / SCALE):
        wrong("unscaled-twice")
    if near(times, learned):
        wrong("not-divided")
    if near(times, learned / positions):
        wrong("counts-padding")
    wrong("gradient-size", times=f"{times:.3g}")


def judged_return(returned, wrong):
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        wrong("return-type", what=type(returned).__name__)
    loss, stepped = returned
    if isinstance(loss, bool) or not isinstance(loss, float | int):
        wrong("loss-type", what=type(loss).__name__)
    if not isinstance(stepped, bool):
        wrong("stepped-type", what=type(stepped).__name__)
    return float(loss), stepped


# ---- clipping, overflow, learning ----------------------------------------------------------------------------------


def check_clipping(train_step, batches, wrong):
    model = Network(0.5)
    train_step(model, torch.optim.SGD(model.parameters(), lr=RATE), batches, SCALE, NO_CLIP)
    norm = size(moved(model, Network(0.5)))
    max_norm = norm / 4
    model = Network(0.5)
    train_step(model, torch.optim.SGD(model.parameters(), lr=RATE), batches, SCALE, max_norm)
    clipped = size(moved(model, Network(0.5)))
    if near(clipped, norm):
        wrong("not-clipped")
    if clipped < max_norm / SCALE * 2:
        wrong("clip-before-unscale")
    if not near(clipped, max_norm):
        wrong("clip-wrong", norm=f"{clipped:.4g}", max_norm=f"{max_norm:.4g}")


def check_overflow(train_step, batches, wrong):
    model = Network(0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    train_step(model, optimizer, batches, SCALE, NO_CLIP)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss, stepped = judged_return(train_step(model, optimizer, batches, OVERFLOWING_SCALE, 1.0), wrong)
    for name, value in model.state_dict().items():
        if not torch.equal(value, before[name]):
            wrong("no-skip")
    if stepped:
        wrong("stepped-flag", said=True, was=False)
    if not math.isfinite(loss):
        wrong("loss-value", loss=loss, true="finite")

    fresh = Network(1e-7)
    optimizer = torch.optim.SGD(fresh.parameters(), lr=RATE)
    train_step(fresh, optimizer, batches, OVERFLOWING_SCALE, NO_CLIP)
    fresh.load_state_dict(Network(1e-7).state_dict())
    train_step(fresh, optimizer, batches, SCALE, NO_CLIP)
    alone = Network(1e-7)
    train_step(alone, torch.optim.SGD(alone.parameters(), lr=RATE), batches, SCALE, NO_CLIP)
    if not distance(moved(fresh, Network(1e-7)), moved(alone, Network(1e-7))) < CLOSE:
        wrong("stale-after-skip")


def check_learning(train_step, batches, wrong):
    """Each word is followed by the next one: sixty steps must teach that."""
    model = Network(0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    tokens_BT = torch.arange(VOCABULARY).view(1, -1)
    task = [(tokens_BT, (tokens_BT + 1) % VOCABULARY)] * 2
    losses = [judged_return(train_step(model, optimizer, task, 1024.0, 1.0), wrong)[0] for _ in range(60)]
    if not losses[-1] < 0.2 * losses[0]:
        wrong("no-learning", first=f"{losses[0]:.3g}", last=f"{losses[-1]:.3g}")


# ---- measuring -----------------------------------------------------------------------------------------------------


def true_gradient(batch):
    """The gradient of one micro-batch's mean loss, scaled through the rounding and unscaled again."""
    model = Network(1e-7)
    tokens_BT, targets_BT = batch
    (F.cross_entropy(model(tokens_BT).flatten(0, 1), targets_BT.flatten()) * SCALE).backward()
    return [parameter.grad / SCALE for parameter in model.parameters()]


def true_means(model, batches):
    with torch.no_grad():
        return [
            float(F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()))
            for tokens, targets in batches
        ]


def moved(model, before):
    """What was subtracted from each parameter: with plain SGD, the gradient that the step used."""
    pairs = zip(model.parameters(), before.parameters(), strict=True)
    return [(old - new).detach() / RATE for new, old in pairs]


def size(tensors):
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def distance(a, b):
    """The largest relative distance of two gradients over the parameters."""
    return max(size([x - y]) / (size([y]) or 1.0) for x, y in zip(a, b, strict=True))


def parallel(a, b):
    dot = sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))
    return dot > 0.9995 * size(a) * size(b) > 0


def near(a, b):
    return abs(a - b) <= CLOSE * abs(b)
