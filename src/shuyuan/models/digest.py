"""What tells two sets of weights apart."""

from __future__ import annotations

import hashlib
from itertools import chain

import torch
from torch import nn


def weights_digest(model: nn.Module) -> str:
    """SHA-256 in hex over the names, types, shapes and bits of all parameters and buffers.

    Args:
        model: on any device; one tensor at a time is copied to the CPU.
    """
    digest = hashlib.sha256()
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
