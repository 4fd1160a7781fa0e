"""Float32 that is float32: what norms, factors and sums are computed in, whatever the model's own products use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """The same numbers in float32, or in float64 if they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@contextmanager
def true_float32() -> Iterator[None]:
    """Products and convolutions of float32 numbers keep all their bits inside, where TF32 (10 bits) or bf16 was allowed outside.

    A sum of clipped gradients that was rounded so would move by more than the clip allows. torch has two ways to set
    this, by one word and by backend, and refuses to read one after the other was used: both are put back as they were.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    convolving = (torch.backends.cudnn.conv, torch.backends.mkldnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in (*backends, *convolving)]
    try:
        word = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by backend alone
        word = "highest"
    torch.set_float32_matmul_precision("highest")
    for backend in convolving:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(word)
        for backend, precision in zip((*backends, *convolving), before, strict=True):
            backend.fp32_precision = precision
