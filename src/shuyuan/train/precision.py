"""Number formats and repeatability: how matrix products are computed, and that they come out the same each time.

Weights, gradients and optimizer state are always float32; bf16 and fp16 are used inside matrix products only
(Micikevicius et al. 2018, arXiv 1710.03740).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from .memory import keeping_memory
from .optimizers import Optimizer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast, and for fp16 a dynamic loss scale; both do nothing in fp32.

    Args:
        name: the format of the matrix products.
        device: "cpu" or "cuda".
    """

    def __init__(self, name: Literal["bf16", "fp16", "fp32"], device: str) -> None:
        self.device = device
        self.dtype = DTYPES[name]
        self.scaler = torch.amp.GradScaler(device, enabled=name == "fp16")

    def autocast(self) -> torch.autocast:
        """The context in which the forward pass is computed."""
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.dtype is not torch.float32)

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of `loss` (times the loss scale, in fp16).

        Args:
            loss: a scalar.
        """
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizers: list[Optimizer]) -> None:
        """Takes the loss scale out of the gradients again."""
        if self.scaler.is_enabled():
            for optimizer in optimizers:
                self.scaler.unscale_(optimizer)  # type: ignore[arg-type]  # it asks for the groups alone

    def update(self) -> bool:
        """Adapts the loss scale to the step just made.

        Returns:
            Whether a non-finite gradient was the scale's fault: it overflowed, and the scale is now lower.
        """
        if not self.scaler.is_enabled():
            return False
        before = self.scaler.get_scale()
        self.scaler.update()
        return before > 1 and self.scaler.get_scale() < before

    def state(self) -> dict[str, torch.Tensor]:
        """The loss scale and how many steps it has held, as tensors; empty without loss scaling."""
        if not self.scaler.is_enabled():
            return {}
        state: dict[str, Any] = self.scaler.state_dict()
        return {
            "scale": torch.tensor(state["scale"], dtype=torch.float32),
            "growth": torch.tensor(state["_growth_tracker"], dtype=torch.int64),
        }

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Goes on with a checkpoint's loss scale.

        Args:
            state: as `state` gave it; looked at in fp16 alone.
        """
        if self.scaler.is_enabled():
            whole = self.scaler.state_dict()
            whole |= {"scale": state["scale"].item(), "_growth_tracker": int(state["growth"].item())}
            self.scaler.load_state_dict(whole)


@contextmanager
def repeatable(cores: int, seed: int, precision: str) -> Iterator[None]:
    """Makes torch compute the same bits each time, and puts its settings and random state back at the end.

    The number of threads is part of what a bit depends on: sums are split among them.

    Args:
        cores: threads to use.
        seed: start of torch's random numbers.
        precision: as resolved; float32 products on a GPU use TF32 unless fp32 was asked for.
    """
    # Read when CUDA starts, https://docs.pytorch.org/docs/stable/notes/randomness.html
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads = torch.get_num_threads()
    algorithms = torch.get_deterministic_debug_mode()
    filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    tf32 = torch.backends.cuda.matmul.allow_tf32
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), keeping_memory():
        try:
            torch.set_num_threads(cores)
            # Not use_deterministic_algorithms: it does the same, and loads torch's compiler, 70 MB.
            torch.set_deterministic_debug_mode("error")
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time only
            torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
            torch.manual_seed(seed)
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            torch.utils.deterministic.fill_uninitialized_memory = filling  # type: ignore[attr-defined]
            torch.set_deterministic_debug_mode(algorithms)
            torch.set_num_threads(threads)
