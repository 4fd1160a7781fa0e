"""Private steps of a model of which every rank holds a share.

A unit lives on one rank, whose backward pass finds its norm over all weights: these are gathered a block at a time, while each is
computed. What a layer's clipped gradients come to is then whole for a moment, in float32, and summed over the ranks, each keeping its
rows of it. Noise is added to these once, by the rank that has them: the same bits that one process would draw for them.

FSDP2's own sums see nothing of this: the weights are held still while they compute, and get no gradient from autograd.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .. import hardware as machines
from ..privacy import Contributions, Mechanism, Sums, Total
from ..recipe import Train
from .backend import Batch
from .distributed import World
from .private import PrivateBackend
from .sharded import ShardedBackend, Shares
from .unit_batches import physical


class ShardedPrivateBackend(ShardedBackend, PrivateBackend):
    """Trains a transformer in shares with clipped and noised sums of its units' gradients.

    Args:
        model: as for `ShardedBackend`.
        train: the recipe's section, resolved.
        hardware: where it runs.
        mechanism: as for `PrivateBackend`.
        secret: as for `PrivateBackend`.
        ranks: that hold a share each.
    """

    _entry = "losses"

    def __init__(
        self,
        model: Any,
        train: Train,
        hardware: machines.Hardware,
        mechanism: Mechanism,
        secret: bytes,
        ranks: World,
    ) -> None:
        super().__init__(model, train, hardware, ranks, mechanism=mechanism, secret=secret)
        self._loss = lambda tokens_BT, targets_BT: self._losses(tokens_BT, targets_BT).sum()

    def _begin(self, batch: Batch) -> None:
        super()._begin(batch)
        self._shares.let_go()  # the clipper knows the weights as they lie between steps

    def _physical(self, batch: Batch) -> Iterator[Batch]:
        return self._even(batch, physical)

    def _sums(self) -> Sums:
        return ShardedSums(self._shares)

    def _set_gradients(self, step: int) -> float:
        """As in one process, of this rank's rows; the norm is that of all."""
        if any(weight.grad is not None for weight in self.model.parameters()):
            raise RuntimeError("a weight was used where no clip sees it")
        square = 0.0
        sums = self._clipper.take()
        totals = [
            Total(number, total, self._shares.first(name))
            for number, (name, total) in enumerate(sums.items())
        ]
        for name, gradient in zip(sums, self._noisy(totals, step), strict=True):
            square += float(gradient.double().square().sum())
            self._shares.set_gradient(name, gradient)
        return math.sqrt(self._ranks.total(square)[0])


class ShardedSums(Sums):
    """Where clipped gradients are added up: over all ranks as soon as they are clipped, and each keeps its rows.

    Nobody looks whether rows mix: such a look gathers weights, and where a rank has one unit alone there is nothing to look at. The
    one model that is sharded is the built-in one, and without shares it is looked at.

    Args:
        shares: of the model.
    """

    checked = False

    def __init__(self, shares: Shares) -> None:
        super().__init__(dict(shares.named_parameters()))
        self._shares = shares

    def add(self, name: str, contributions: Contributions, factors_U: Tensor) -> None:
        """What the units of this rank give one parameter, and those of all others; every rank calls it for the same parameters in the same order."""
        own = self._sums[name]
        whole = torch.zeros(self._shares.whole_shape(name), dtype=own.dtype, device=own.device)
        contributions.add_clipped(whole, factors_U)
        own += self._shares.add_up(name, whole)
