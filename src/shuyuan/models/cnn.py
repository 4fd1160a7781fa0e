"""Networks for images: the one of the textbooks, and a residual one whose group norms let it be trained privately.

Shapes: B images, C channels, H x W pixels or places, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .image_config import GROUPS, KERNEL, ImageConfig
from .labelled import Labelled


class ImageClassifier(Labelled):
    """A classifier of images: pixels in, one logit for each class out. Its two kinds are below.

    Args:
        config: the shape.

    Attributes:
        new: as of `Transformer`.
    """

    config: ImageConfig
    head: nn.Linear

    @property
    def context(self) -> int:
        """Tokens that the model sees at once: none."""
        return 0

    def features(self, x_BCHW: Tensor) -> Tensor:
        """What the head reads of each image (B, features).

        Args:
            x_BCHW: pixels, floats from -1 to 1.
        """
        raise NotImplementedError

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits of the classes (B, K).

        Args:
            images_BCHW: pixels, uint8 from 0 to 255, or floats from 0 to 1.
        """
        bright = 255.0 if images_BCHW.dtype == torch.uint8 else 1.0
        x_BCHW = images_BCHW * (2 / bright) - 1  # the same for all data: nothing is learned from the records
        logits_BK: Tensor = self.head(self.features(x_BCHW))
        return logits_BK


class Textbook(ImageClassifier):
    """Convolution, ReLU, 2 x 2 max pooling, a hidden layer with ReLU, and the head.

    Padding 1 keeps the image's size under a 3 x 3 kernel, and pooling halves it: at 28 x 28 the hidden layer reads
    32 x 14 x 14 numbers. That follows from the images' size, so that it fits all others too.
    """

    def __init__(self, config: ImageConfig) -> None:
        super().__init__(config)
        (width,) = config.widths
        self.conv = nn.Conv2d(config.channels, width, KERNEL, padding=1)
        self.hidden = nn.Linear(config.features, config.hidden)
        self.head = nn.Linear(config.hidden, len(config.labels))

    def features(self, x_BCHW: Tensor) -> Tensor:
        return F.relu(self.hidden(relu_and_pool(self.conv(x_BCHW)).flatten(1)))


class Residual(ImageClassifier):
    """Stages of normed convolutions that halve the image, each with residual convolutions behind it, and the head.

    The norm is over groups of channels of one image (https://arxiv.org/abs/1803.08494), never over a batch, so that an
    image's gradient is its own.
    """

    def __init__(self, config: ImageConfig) -> None:
        super().__init__(config)
        inputs = (config.channels, *config.widths)
        self.stages = nn.Sequential(
            *(
                Stage(inputs[number], width, config.residual, halves=side != config.sides()[number + 1])
                for number, (width, side) in enumerate(zip(config.widths, config.sides(), strict=False))
            )
        )
        self.head = nn.Linear(config.features, len(config.labels))

    def features(self, x_BCHW: Tensor) -> Tensor:
        last_BCHW: Tensor = self.stages(x_BCHW)
        if self.config.window != (1, 1):
            last_BCHW = F.avg_pool2d(last_BCHW, self.config.window, ceil_mode=True)
        return last_BCHW.flatten(1)


class Stage(nn.Module):
    """A normed convolution, max pooling where the map is still large, and residual convolutions."""

    def __init__(self, inputs: int, width: int, residual: int, halves: bool) -> None:
        super().__init__()
        self.conv, self.norm = _conv(inputs, width), _norm(width)
        self.halves = halves
        self.residual = nn.ModuleList(Branch(width) for _ in range(residual))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.norm(self.conv(x_BCHW))
        x_BCHW = relu_and_pool(x_BCHW) if self.halves else F.relu(x_BCHW)
        for branch in self.residual:
            x_BCHW = x_BCHW + branch(x_BCHW)
        return x_BCHW


class Branch(nn.Module):
    """What is added to the map: a normed convolution of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = _conv(width, width), _norm(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x_BCHW)))


def relu_and_pool(x_BCHW: Tensor) -> Tensor:
    """ReLU, then the largest of each 2 x 2 places.

    With the channels last in between, since torch's pooling is then vectorised on CPUs: 3.3 instead of 6.3 ns a number, forward
    and backward in bfloat16, copies included.

    Args:
        x_BCHW: any floats.

    Returns:
        (B, C, H / 2, W / 2), rounded down.
    """
    x_BCHW = F.relu(x_BCHW.contiguous(memory_format=torch.channels_last))
    return F.max_pool2d(x_BCHW, 2).contiguous()


def image_classifier(config: ImageConfig, seed: int = 0) -> ImageClassifier:
    """The network of that shape, with torch's own initial weights drawn from the seed; the global random state stays.

    Args:
        config: the shape; with `hidden` the textbook's network, else the residual one.
        seed: start of the weights. Default 0.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Textbook(config) if config.hidden else Residual(config)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, KERNEL, padding=1, bias=False)  # a norm with a shift follows


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(GROUPS, width), width)
