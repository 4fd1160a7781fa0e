"""Judges the three functions by what they compute: shapes, losses, steps, and whether a tiny task is learned.

B images, K classes.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

SIZES = ((1, 28, 28, 10), (3, 32, 20, 7), (1, 9, 11, 3))
RATE = 0.5
CLOSE = 1e-4


def check(answer, wrong):
    for size in SIZES:
        check_network(answer.build_network, size, wrong)
    check_epoch(answer.train_epoch, wrong)
    check_modes(answer.train_epoch, answer.accuracy, wrong)
    check_accuracy(answer.accuracy, wrong)
    check_learning(answer, wrong)


# ---- the network ---------------------------------------------------------------------------------------------------


def check_network(build_network, size, wrong):
    channels, height, width, classes = size
    torch.manual_seed(0)
    network = build_network(channels, height, width, classes)
    if not isinstance(network, nn.Module):
        wrong("no-module", what=type(network).__name__)
    shapes = [tuple(weight.shape) for weight in network.parameters()]
    maps = (height // 2) * (width // 2)
    images = torch.rand(6, channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    logits = run(network, images, size, wrong)
    if not isinstance(logits, torch.Tensor):
        wrong("no-logits", what=type(logits).__name__)
    if tuple(logits.shape) != (6, classes):
        wrong("logits-shape", shape=tuple(logits.shape), wanted=(6, classes))
    if (logits >= 0).all() and torch.allclose(logits.sum(1), torch.ones(6), atol=1e-4):
        wrong("softmax-twice")
    wanted = [(32, channels, 3, 3), (32,), (128, 32 * maps), (128,), (classes, 128), (classes,)]
    if sorted(shapes) != sorted(wanted):
        name_shapes(shapes, size, wrong)
    if not torch.allclose(logits, by_hand(network, images), atol=CLOSE):
        if torch.allclose(logits, by_hand(network, images, lambda x: x), atol=CLOSE):
            wrong("no-relu")
        wrong("other-network")


def run(network, images, size, wrong):
    """The logits; a layer that gets another number of values than it was made for is named."""
    _, height, width, _ = size
    try:
        return network(images)
    except (RuntimeError, ValueError) as error:
        places = f"32 x {height // 2} x {width // 2}"
        wrong("flatten-size", height=height, width=width, places=places, error=str(error)[:120])


def name_shapes(shapes, size, wrong):
    """The network runs, but its layers have other sizes."""
    _, height, width, _ = size
    read = max((shape[1] for shape in shapes if len(shape) == 2), default=0)
    if read == 32 * ((height - 2) // 2) * ((width - 2) // 2):
        wrong("no-padding")
    if read == 32 * height * width:
        wrong("no-pooling")
    wrong("other-shapes", shapes=shapes)


def by_hand(network, images, relu=F.relu):
    """The logits from the network's own parameters, told apart by their shapes."""
    convolution = next(weight for weight in network.parameters() if weight.ndim == 4)
    hidden = next(weight for weight in network.parameters() if weight.ndim == 2 and len(weight) == 128)
    head = next(weight for weight in network.parameters() if weight.ndim == 2 and weight is not hidden)
    biases = {len(weight): weight for weight in network.parameters() if weight.ndim == 1}
    x = F.max_pool2d(relu(F.conv2d(images, convolution, biases[32], padding=1)), 2).flatten(1)
    return F.linear(relu(F.linear(x, hidden, biases[128])), head, biases[len(head)])


# ---- an epoch ------------------------------------------------------------------------------------------------------


def make_batches():
    """Batches of 4, 4 and 1: a mean of their means is far from the mean over images, and so is the last one."""
    maker = torch.Generator().manual_seed(3)
    return [
        (torch.randn(count, 5, generator=maker), torch.randint(3, (count,), generator=maker))
        for count in (4, 4, 1)
    ]


def make_model():
    model = nn.Linear(5, 3)
    maker = torch.Generator().manual_seed(5)
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, 5, generator=maker))
        model.bias.zero_()
    return model


def epoch(clears=True):
    """The losses of each batch before its step, and the model after all of them."""
    model, losses = make_model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for images, labels in make_batches():
        if clears:
            optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


def check_epoch(train_epoch, wrong):
    model = make_model()
    returned = train_epoch(model, torch.optim.SGD(model.parameters(), lr=RATE), make_batches())
    losses, right = epoch()
    if not same(model, right):
        name_steps(model, wrong)
    if isinstance(returned, bool) or not isinstance(returned, float | int):
        wrong("loss-type", what=type(returned).__name__)
    counts = [4, 4, 1]
    wanted = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    if near(returned, wanted):
        return
    if near(returned, losses[-1]):
        wrong("last-batch")
    if near(returned, sum(losses) / len(losses)):
        wrong("mean-of-means")
    if near(returned, sum(losses)) or near(returned, wanted * sum(counts)):
        wrong("not-divided")
    wrong("loss-value", loss=f"{float(returned):.4g}", true=f"{wanted:.4g}")


def name_steps(model, wrong):
    if same(model, make_model()):
        wrong("no-step")
    if same(model, epoch(clears=False)[1]):
        wrong("stale-gradients")
    wrong("wrong-steps")


# ---- modes and accuracy --------------------------------------------------------------------------------------------


class Watched(nn.Module):
    """Gives back its input, and notes in which mode it was called."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.modes, self.grads = [], []

    def forward(self, images):
        self.modes.append(self.training)
        self.grads.append(torch.is_grad_enabled())
        return images * self.scale


def scores():
    """Batches whose largest entry is right for 3 of 4, 4 of 4 and 0 of 1 images."""
    batches = []
    for rights in ((1, 1, 1, 0), (1, 1, 1, 1), (0,)):
        labels = torch.arange(len(rights)) % 3
        told = (labels + 1 - torch.tensor(rights)) % 3
        batches.append((F.one_hot(told, 3).float(), labels))
    return batches


def check_modes(train_epoch, accuracy, wrong):
    model = Watched().eval()
    train_epoch(model, torch.optim.SGD(model.parameters(), lr=0.1), scores())
    if not all(model.modes):
        wrong("training-mode")
    model = Watched().train()
    accuracy(model, scores())
    if any(model.modes):
        wrong("evaluation-mode")
    if any(model.grads):
        wrong("keeps-graph")


def check_accuracy(accuracy, wrong):
    returned = accuracy(Watched(), scores())
    if isinstance(returned, bool) or not isinstance(returned, float | int):
        wrong("accuracy-type", what=type(returned).__name__)
    if near(returned, 7 / 9):
        return
    if near(returned, 700 / 9):
        wrong("percent")
    if near(returned, (3 / 4 + 1 + 0) / 3):
        wrong("accuracy-of-batches")
    wrong("accuracy-value", accuracy=f"{float(returned):.4g}", true="7/9")


# ---- learning ------------------------------------------------------------------------------------------------------


def check_learning(answer, wrong):
    """Stripes across and down, with noise: a dozen epochs must tell them apart."""
    torch.manual_seed(0)
    maker = torch.Generator().manual_seed(9)
    labels = torch.arange(40) % 2
    across = (torch.arange(8) % 2).float().expand(8, 8)
    stripes = torch.where(labels.view(-1, 1, 1, 1) == 0, across, across.T)
    images = stripes + torch.randn(40, 1, 8, 8, generator=maker) * 0.3
    batches = list(zip(images.split(16), labels.split(16), strict=True))
    network = answer.build_network(1, 8, 8, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = [answer.train_epoch(network, optimizer, batches) for _ in range(12)]
    found = answer.accuracy(network, batches)
    if not (losses[-1] < 0.5 * losses[0] and found > 0.9):
        wrong("no-learning", first=f"{losses[0]:.3g}", last=f"{losses[-1]:.3g}", accuracy=f"{found:.2g}")


def same(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def near(a, b):
    return math.isfinite(a) and abs(a - b) <= CLOSE * max(1.0, abs(b))
