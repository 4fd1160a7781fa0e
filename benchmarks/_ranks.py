"""Figures of the handbook's page on distributed training: how far runs lie apart, and what averaging the means of ranks does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch

from shuyuan import data, models, recipe, vault
from shuyuan.runs import Run
from shuyuan.train.backend import Batch, learned
from shuyuan.train.distributed import share

RANKS, STEPS = 2, 20


def weights_apart(folder: Path, other: Path) -> float:
    """Percent: the norm of the difference of all weights of two runs over that of the second's."""
    from safetensors.torch import load_file

    a, b = (load_file(each / "model" / "model.safetensors") for each in (folder, other))
    difference = math.fsum(float((a[name].double() - b[name].double()).square().sum()) for name in b)
    whole = math.fsum(float(tensor.double().square().sum()) for tensor in b.values())
    return 100 * math.sqrt(difference / whole)


def uneven_targets(folder: Path) -> float:
    """The worst of the run's first steps: targets of the rank that has most over those of the one that has fewest."""
    counts = [_counts(parts) for _, parts in _steps(folder)]
    return max(max(each) / min(each) for each in counts)


def gradients_off(folder: Path) -> list[float]:
    """Percent, for each of the first steps: how far the mean of the ranks' mean gradients is from the gradient of the batch."""
    found = []
    for model, parts in _steps(folder):
        sums, counts = [_gradient(model, part) for part in parts], _counts(parts)
        true = sum(sums) / sum(counts)
        averaged = sum(one / count for one, count in zip(sums, counts, strict=True)) / len(parts)
        found.append(float(100 * (averaged - true).norm() / true.norm()))
    return found


def _steps(folder: Path) -> Iterator[tuple[torch.nn.Module, list[Batch]]]:
    """The trained model, and the share of each rank in a step's batch."""
    own = recipe.load(folder / "recipe.toml")
    with vault.open_store(Run(folder), None, writable=False) as store:
        manifest = data.load_manifest(store)
        rows = data.open_split(store, manifest, "train", own.model.context)
        model = models.load_network(store, "model")
        for step in range(STEPS):
            batch = Batch(step, *rows.batch(step, own.train.batch_size, own.seed))
            yield model, [share(batch, number, RANKS) for number in range(RANKS)]


def _counts(parts: list[Batch]) -> list[int]:
    return [int(learned(part.targets_BT).sum()) for part in parts]


def _gradient(model: torch.nn.Module, part: Batch) -> torch.Tensor:
    """Of the sum of a share's losses, as one vector."""
    model.zero_grad()
    model.loss(torch.from_numpy(part.inputs_BT), torch.from_numpy(part.targets_BT)).backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])
