"""Optimizers: Muon for the matrices inside the blocks with AdamW for all else, AdamW alone, or SGD.

State is made before the first step, so that a checkpoint has the same arrays at every step and memory shows its
peak from the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.95)
MUON_MOMENTUM = 0.95
SGD_MOMENTUM = 0.9
# Newton-Schulz coefficients and the number of iterations of Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz iterations, at the root mean square of AdamW's.

    The same update as `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")`, which iterates in bfloat16 on every machine;
    a processor without bf16 instructions is many times slower at that than in float32, hence `dtype`.

    Args:
        params: matrices.
        lr: learning rate, on AdamW's scale.
        weight_decay: decoupled, times `lr`.
        dtype: the format of the iterations.

    Reference: Liu et al. 2025, Muon is Scalable for LLM Training (arXiv 2502.16982).
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, dtype: torch.dtype
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates every matrix that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight]["momentum_buffer"]
                momentum.lerp_(weight.grad, 1 - MUON_MOMENTUM)
                update = orthogonal(weight.grad.lerp(momentum, MUON_MOMENTUM), self.dtype)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-0.2 * group["lr"] * math.sqrt(max(weight.shape)))


def orthogonal(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest matrix with all singular values near 1 (within about 0.7 to 1.2).

    Args:
        matrix: any shape (rows, columns).
        dtype: the format of the iterations, and of the result.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide.to(dtype)
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


def make_optimizers(
    model: nn.Module, kind: Literal["muon", "adamw", "sgd"], weight_decay: float, muon_dtype: torch.dtype
) -> list[torch.optim.Optimizer]:
    """The optimizers of a model, each parameter in exactly one group; a tied weight counts once.

    Weight decay falls on the matrices inside the blocks only: not on norms, and not on embedding and head, whose rows
    are rare words that would fade between two visits.

    Args:
        model: names its parameters; those inside blocks have ".layers." in their names.
        kind: as in the recipe.
        weight_decay: decoupled.
        muon_dtype: the format of Muon's iterations.
    """
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    matrices = [weight for name, weight in named if ".layers." in name and weight.ndim == 2]
    rest = [weight for name, weight in named if not (".layers." in name and weight.ndim == 2)]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    optimizers: list[torch.optim.Optimizer]
    if kind == "muon" and matrices:
        optimizers = [Muon(matrices, 0.0, weight_decay, muon_dtype)]
        if rest:
            optimizers.append(torch.optim.AdamW(rest, 0.0, BETAS, weight_decay=0.0, fused=True))
    elif kind == "sgd":
        optimizers = [Sgd(groups)]
    else:
        optimizers = [torch.optim.AdamW(groups, 0.0, BETAS, fused=True)]
    for optimizer in optimizers:
        _fill_state(optimizer)
    return optimizers
