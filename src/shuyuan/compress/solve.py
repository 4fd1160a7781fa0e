"""Which weights of a matrix go and how the others are rounded, so that its outputs on some records change least.

A row w of the matrix answers x with w·x; over records its squared error for a change d is d·H·dᵗ, where H is the sum of the
inputs' products. Columns are settled one after another, and the error of each is made good by those that are still free.

Shapes: R rows, C columns, G groups of columns, as in models.packed.

References: GPTQ, Frantar et al. 2022, https://arxiv.org/abs/2210.17323; SparseGPT, Frantar and Alistarh 2023,
https://arxiv.org/abs/2301.00774; Wanda, Sun et al. 2023, https://arxiv.org/abs/2306.11695
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..models.packed import GROUP, MOST_4, Grid

BLOCK = 128  # columns whose errors reach the others together, and of which SparseGPT takes out the same share
DAMPING = 0.01  # of the mean of H's diagonal: inputs that are nearly alike would make it singular


Spread = tuple[Tensor, Tensor]  # scale and zero of each weight, both (R, C)


class Solved(NamedTuple):
    """A matrix with what was settled: its weights, and where one is left; None: everywhere."""

    weight_RC: Tensor
    mask_RC: Tensor | None = None


def wanda(weight_RC: Tensor, moments_CC: Tensor, share: float) -> Tensor:
    """Where weights are left when those of the matrix that contribute least go: |weight| times the size of its input.

    The paper takes the same share out of each row, which is better for models of billions of parameters; in small ones it costs
    more than the choice gains over the weights alone (docs/lab-notes.md).

    Args:
        weight_RC: the matrix.
        moments_CC: the sum of the products of its inputs.
        share: of the weights that go, 0 to 1.

    Returns:
        (R, C) of bool.

    Reference:
        Sun et al., "A simple and effective pruning approach for large language models", 2023 (arXiv 2306.11695).
    """
    return most(weight_RC.abs() * moments_CC.diagonal().clamp(min=0).sqrt(), share)


def settled(
    weight_RC: Tensor,
    moments_CC: Tensor,
    *,
    grid: Spread | None = None,
    share: float = 0.0,
    mask_RC: Tensor | None = None,
) -> Solved:
    """Prunes and rounds a matrix column by column.

    Args:
        weight_RC: the matrix, float32.
        moments_CC: the sum of the products of its inputs.
        grid: to which each weight is rounded, as of `spread`; None: none is.
        share: of the weights that go, chosen here; or
        mask_RC: where weights are left, chosen before.
    """
    R, C = weight_RC.shape
    device = weight_RC.device
    order_C = torch.arange(C, device=device)
    if not share:  # what matters is settled first; but if each block of columns gives the same share, each must be a mixture
        order_C = moments_CC.diagonal().argsort(descending=True, stable=True)
    back_C = order_C.argsort()
    weight = weight_RC[:, order_C].clone()
    inverse = _inverse_root(moments_CC[order_C][:, order_C])
    scale, zero = (None, None) if grid is None else (each.to(device)[:, order_C] for each in grid)
    left = torch.ones_like(weight, dtype=torch.bool) if mask_RC is None else mask_RC[:, order_C].clone()
    for start in range(0, C, BLOCK):
        stop = min(start + BLOCK, C)
        if share:
            damage = weight[:, start:stop].square() / inverse.diagonal()[start:stop].square()
            left[:, start:stop] = most(damage, share)
        errors = torch.zeros(R, stop - start, device=device)
        for column in range(start, stop):
            wanted = weight[:, column]
            kept = wanted * left[:, column]
            if scale is not None and zero is not None:
                kept = _rounded(kept, scale[:, column], zero[:, column])
            error = (wanted - kept) / inverse[column, column]
            weight[:, column] = kept
            weight[:, column + 1 : stop] -= error[:, None] * inverse[column, column + 1 : stop]
            errors[:, column - start] = error
        weight[:, stop:] -= errors @ inverse[start:stop, stop:]
    pruned = bool(share) or mask_RC is not None
    return Solved(weight[:, back_C], left[:, back_C] if pruned else None)


def spread(grid: Grid, C: int) -> Spread:
    """(scale, zero) of each weight, both (R, C).

    Args:
        grid: scales and zeros of groups of a row's weights.
        C: columns of the matrix.
    """
    scale_RG = torch.from_numpy(grid.scale_RG).float()
    zero_RG = torch.from_numpy(grid.zero_RG).float()
    scale_RC, zero_RC = (each.repeat_interleave(GROUP, 1)[:, :C] for each in (scale_RG, zero_RG))
    return scale_RC, zero_RC


def _rounded(weight_R: Tensor, scale_R: Tensor, zero_R: Tensor) -> Tensor:
    step_R = scale_R.where(scale_R > 0, torch.ones_like(scale_R))
    return ((weight_R / step_R).round().add_(zero_R).clamp_(0, MOST_4) - zero_R) * scale_R


def most(damage: Tensor, share: float) -> Tensor:
    """Where the entries stand whose loss would do most damage, all but a share of them.

    Args:
        damage: of each entry, in any shape.
        share: of the entries that go, 0 to 1.

    Returns:
        bool, of the same shape.
    """
    gone = round(share * damage.numel())
    left = torch.ones(damage.numel(), dtype=torch.bool, device=damage.device)
    left[damage.flatten().argsort(stable=True)[:gone]] = False
    return left.view(damage.shape)


def _inverse_root(moments_CC: Tensor) -> Tensor:
    """The upper triangle U with UᵗU = H⁻¹, of H with a little on its diagonal; inputs that were always zero count as independent."""
    moments = moments_CC.double()
    diagonal = moments.diagonal()
    mean = diagonal.mean()
    moments = moments + torch.diag(torch.where(diagonal > 0, DAMPING * mean, mean.clamp(min=1e-12)))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
    root: Tensor = torch.linalg.cholesky(inverse, upper=True).float()
    return root
