"""A convolutional network in PyTorch: built, trained, evaluated."""

import torch  # noqa: F401
import torch.nn.functional as F  # noqa: F401
from torch import nn  # noqa: F401


def build_network(channels, height, width, classes):
    """A convolution with 32 kernels of 3 x 3 and padding 1, ReLU, 2 x 2 max
    pooling, a hidden layer of 128 with ReLU, and an output layer.

    Args:
        channels, height, width: of the images; any size from 2 x 2 on.
        classes: how many there are.

    Returns:
        An nn.Module: float images (B, channels, height, width) in, one logit
        for each class (B, classes) out.
    """
    raise NotImplementedError


def train_epoch(model, optimizer, batches):
    """One epoch: one optimizer step a batch, on its mean cross entropy.

    Args:
        model: as above, or any other that gives logits.
        optimizer: an optimizer over its parameters.
        batches: a list of (images, labels). The last one may be smaller.

    Returns:
        The mean loss over all images of the epoch as a Python float, each as
        it was before its batch's step.
    """
    raise NotImplementedError


def accuracy(model, batches):
    """The share of all images whose largest logit is that of their label.

    Args:
        model: may hold dropout or batch norm.
        batches: as above.

    Returns:
        A Python float from 0 to 1.
    """
    raise NotImplementedError
