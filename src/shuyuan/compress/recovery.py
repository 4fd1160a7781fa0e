"""Training after pruning: what is left makes good what went; or weights go little by little while the others learn.

Reference: gradual pruning, Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from .calibrated import Masks
from .prune import largest
from .solve import most

FALLING = 2 / 3  # of the steps, in which gradual pruning reaches its share
ROUNDS = 50  # choices of masks on the way


@torch.no_grad()
def prune_rest(model: Any, names: Iterable[str], share: float, masks: Masks) -> None:
    """Takes the smallest weights out of the matrices that have no mask yet.

    Args:
        model: the network, which is changed in place.
        names: of its matrices.
        share: of each matrix's weights that go, 0 to 1.
        masks: where weights are left; those of the rest are added.
    """
    for name, weight in _weights(model, set(names) - masks.keys()).items():
        masks[name] = largest(weight.cpu().numpy(), share)
        weight.mul_(torch.from_numpy(masks[name]).to(weight.device))


def holding(model: Any, masks: Masks) -> Callable[[int, int], None]:
    """Keeps what is pruned at zero, between the steps of a training.

    Args:
        model: the network.
        masks: where weights are left.

    Returns:
        What to call after each step, with its number and that of all.
    """
    weights = _weights(model, masks)
    kept = {name: torch.from_numpy(mask).to(weights[name].device) for name, mask in masks.items()}

    @torch.no_grad()
    def hold(step: int, steps: int) -> None:
        for name, weight in weights.items():
            weight.mul_(kept[name])

    return hold


def falling(model: Any, names: Iterable[str], share: float, masks: Masks) -> Callable[[int, int], None]:
    """Takes out the smallest weights, ever more of them, until the share is reached; writes the last masks into `masks`.

    Args:
        model: the network.
        names: of its matrices.
        share: of each matrix's weights that are gone in the end, 0 to 1; it is reached after two thirds of the steps.
        masks: takes the last masks.

    Returns:
        What to call after each step, with its number and that of all.

    Reference:
        The cubic schedule of Zhu and Gupta, "To prune, or not to prune", 2017 (arXiv 1710.01878).
    """
    weights, left = _weights(model, names), dict[str, Any]()

    @torch.no_grad()
    def fall(step: int, steps: int) -> None:
        last = max(1, round(FALLING * steps))
        if step <= last and (step == last or step % max(1, last // ROUNDS) == 0):
            now = share * (1 - (1 - step / last) ** 3)
            left.update({name: most(weight.abs(), now) for name, weight in weights.items()})
        for name, mask in left.items():
            weights[name].mul_(mask)
        if step == last:
            masks.update({name: mask.cpu().numpy() for name, mask in left.items()})

    return fall


def _weights(model: Any, names: Iterable[str]) -> dict[str, Any]:
    _, weights = model.to_hub()
    return {name: weights[name] for name in names}
