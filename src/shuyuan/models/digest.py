"""What tells two sets of weights apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor, nn


def weights_digest(model: nn.Module) -> str:
    """SHA-256 in hex over the names, types, shapes and bits of all parameters and buffers.

    Args:
        model: on any device.
    """
    return digest_of(chain(model.named_parameters(), model.named_buffers()))


def digest_of(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The same of some tensors and their names.

    Args:
        tensors: on any device; one at a time is copied to the CPU.
    """
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
