"""A linear layer with LoRA: two small matrices beside a frozen one."""

import math

import torch


def start(outputs, inputs, rank, generator):
    """b is zero, so the product is; a is not, so b has a gradient."""
    a = torch.randn(rank, inputs, generator=generator) / math.sqrt(inputs)
    b = torch.zeros(outputs, rank)
    return a.requires_grad_(), b.requires_grad_()


def forward(x, weight, a, b, alpha):
    """From the right: x meets `a` first, and `rank` numbers are left."""
    rank = a.shape[0]
    return x @ weight.detach().T + (x @ a.T) @ b.T * (alpha / rank)


def merged(weight, a, b, alpha):
    rank = a.shape[0]
    return (weight + b @ a * (alpha / rank)).detach()
