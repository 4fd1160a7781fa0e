"""Scores of canaries by someone who has the weights before and after training, and so can compute gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import Manifest, UnitRows
from ..hardware import detect
from ..models.hub import Network
from ..progress import Progress
from ..vault import Store

COORDINATES = 16_384  # of the weights that are looked at
RIDGE = 1e-3
OTHERS = 256  # records whose gradients are told apart from the canaries'
Ids = NDArray[np.int64]


def shares(
    before: Network,
    after: Network,
    rows: tuple[Ids, Ids],
    store: Store,
    manifest: Manifest,
    context: int,
    planted: int,
    progress: Progress,
) -> NDArray[np.float64]:
    """How much of each canary's gradient is in what training changed.

    Args:
        before, after: the model before and after training.
        rows: inputs and targets of the canaries.
        store: the run's files.
        manifest: what was prepared.
        context: tokens of a row.
        planted: canaries that stand among the records.
        progress: shows it.
    """
    device = detect().device
    inputs, targets = map(torch.from_numpy, rows)
    beside = _others(store, manifest, context, planted)
    return _share_in_the_update(before.to(device), after.to(device), [(inputs, targets), beside], progress)


def _others(store: Store, manifest: Manifest, context: int, planted: int) -> tuple[Tensor, Tensor]:
    """Rows of some records that are no canaries; those were written behind all others."""
    units = UnitRows(store, manifest, context, "record", 1)
    random = np.random.default_rng(0)
    there = units.count - planted
    rows = units.rows(random.choice(there, min(there, OTHERS), replace=False), random)
    return torch.from_numpy(rows.inputs_NT), torch.from_numpy(rows.targets_NT)


def _share_in_the_update(
    before: Network, after: Network, sources: list[tuple[Tensor, Tensor]], progress: Progress
) -> NDArray[np.float64]:
    """How much of each canary's gradient is in what training changed, all of them and other records explained together.

    The plain inner product of update and gradient mostly tells what all rows have in common. So the update is written as a
    weighted sum of the gradients of canaries and some other records, as nearly as can be (ridge regression), and the
    canaries' weights are the scores. A random choice of COORDINATES of the model's weights is enough, and bounds the memory.

    Args:
        before, after: the model before and after training.
        sources: inputs and targets, first of the canaries, then of other records.
        progress: shows it.
    """
    first, last = dict(before.named_parameters()), dict(after.named_parameters())
    random = torch.Generator().manual_seed(0)
    share = min(1.0, COORDINATES / sum(weight.numel() for weight in first.values()))
    chosen = {
        name: torch.randperm(weight.numel(), generator=random)[: max(1, round(share * weight.numel()))]
        for name, weight in first.items()
    }

    def picked(of: Callable[[str], Tensor]) -> Tensor:
        return torch.cat([of(name).detach().flatten().cpu()[chosen[name]] for name in first]).double()

    downhill = picked(lambda name: first[name] - last[name])
    rows = [row for inputs, targets in sources for row in zip(inputs, targets, strict=True)]
    device = next(before.parameters()).device
    gradients = torch.empty(len(rows), len(downhill), dtype=torch.float64)
    with progress.stage("score the canaries", len(rows), "rows") as stage:
        for number, (inputs, targets) in enumerate(rows):
            loss = before.loss(inputs[None].to(device), targets[None].to(device))
            parts = dict(zip(first, torch.autograd.grad(loss, list(first.values())), strict=True))
            gradients[number] = picked(parts.__getitem__)
            stage.advance(1)
    gradients /= gradients.norm(dim=1, keepdim=True).clamp(min=1e-12)
    gram = gradients @ gradients.T + RIDGE * torch.eye(len(rows), dtype=torch.float64)
    scores: NDArray[np.float64] = torch.linalg.solve(gram, gradients @ downhill).numpy()
    return scores[: len(sources[0][0])]
