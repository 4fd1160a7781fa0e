"""Wrong: both matrices begin at random, so that the model is another one before the first step."""

import math

import torch


def start(outputs, inputs, rank, generator):
    """Random numbers in both."""
    a = torch.randn(rank, inputs, generator=generator) / math.sqrt(inputs)
    b = torch.randn(outputs, rank, generator=generator) / math.sqrt(inputs)
    return a.requires_grad_(), b.requires_grad_()


def forward(x, weight, a, b, alpha):
    """From the right: x meets `a` first, and only `rank` numbers are left."""
    rank = a.shape[0]
    return x @ weight.detach().T + (x @ a.T) @ b.T * (alpha / rank)


def merged(weight, a, b, alpha):
    rank = a.shape[0]
    return (weight + b @ a * (alpha / rank)).detach()
