"""How far runs lie apart, what averaging the means of ranks does, and plans for many devices."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch

from shuyuan import data, models, recipe, vault
from shuyuan.planning import layouts
from shuyuan.runs import Run
from shuyuan.train.backend import Batch, learned
from shuyuan.train.distributed import share

from .page import Measure, Page, median, validation_loss
from .running import Finished

RANKS, STEPS = 2, 20


def apart_from(other: str) -> Measure:
    """How far the weights of a run lie from those of another figure's run."""
    return lambda runs, all_runs: weights_apart(runs[0].folder, all_runs[other][0].folder)


def states_gigabytes(run: Finished) -> float:
    items = run.result["items"]
    return sum(items.get(name, 0) for name in layouts.SHARDED) / 1e9


def planned_peak(run: Finished) -> float:
    return float(run.result["peak_bytes"]["expected"]) / 1e9


def device_hours(run: Finished) -> float:
    return float(run.result["price"]["device_hours"])


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


PAGE = Page(
    {
        "one-loss": median(validation_loss),
        "two-loss": median(validation_loss),
        "two-apart": apart_from("one-loss"),
        "sharded-loss": median(validation_loss),
        "uneven": median(lambda run: uneven_targets(run.folder)),
        "gradient-off": median(lambda run: statistics.median(gradients_off(run.folder))),
        "gradient-worst": median(lambda run: max(gradients_off(run.folder))),
        "alone-peak": median(planned_peak),
        "eight-states": median(states_gigabytes),
        "eight-peak": median(planned_peak),
        "eight-hours": median(device_hours),
        "many-hours": median(device_hours),
    },
    needs={"two-apart": ["one-loss"]},
    stands_on=dict.fromkeys(("gradient-off", "gradient-worst"), "uneven"),
)
