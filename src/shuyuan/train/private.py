"""Private steps in PyTorch: clipped gradients of each unit, summed and noised."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .. import hardware as machines
from ..privacy import Clipper, Mechanism, Noise, Ranks, Sums, Total, Units
from ..recipe import Train
from .backend import Batch, Figures, learned
from .blocks import blocks_of
from .distributed import ALONE, World
from .torch_backend import TorchBackend
from .unit_batches import physical


class PrivateBackend(TorchBackend):
    """Trains a model with clipped and noised sums of its units' gradients.

    Whatever the gradients are, a step is made: none is skipped, scaled or repeated for what the records hold.

    Args:
        model: as for `TorchBackend`, with `losses` for each target.
        train: the recipe's section, resolved.
        hardware: where it runs.
        mechanism: what a step does.
        secret: 32 bytes, from which the noise follows.
        ranks: as for `TorchBackend`; a unit's rows are all computed by one of them.
    """

    def __init__(
        self,
        model: Any,
        train: Train,
        hardware: machines.Hardware,
        mechanism: Mechanism,
        secret: bytes,
        ranks: World = ALONE,
    ) -> None:
        super().__init__(model, train, hardware, ranks=ranks)
        self._mechanism = mechanism
        self._clipper = Clipper(self.model, mechanism.clip, mechanism.clipping, self._sums())
        if train.compile:
            self._clipper.compiled(blocks_of(self.model, "train.compile"))
        self._noise = Noise(secret, compiled=train.compile)
        self._adding = Ranks(torch.device(self.device), alone=ranks.count == 1)
        self._losses: Callable[[Tensor, Tensor], Tensor] = self.model.losses  # type: ignore[assignment]

    def step(self, batch: Batch, learning_rate: float) -> Figures:
        """One step, also with an empty batch. The figures tell of records: they stay inside.

        Args:
            batch: with the unit of each row.
            learning_rate: for all parameters.
        """
        self._begin(batch)
        told = [self._backward(part) for part in self._physical(batch)]
        # Read once a step: a GPU would have to wait for each that is read.
        sums = torch.stack(told).cpu().T if told else torch.zeros(3, 0)
        total, *counts = self._ranks.total(*(sum(row.tolist()) for row in sums))
        targets, bad = map(int, counts)
        norm = self._set_gradients(batch.step)
        self._optimizers.step(learning_rate)
        self._zero_gradients()
        return Figures(total / targets if targets else math.nan, norm, targets, not_finite=bad)

    def close(self) -> None:
        """Takes the hooks off the model."""
        self._clipper.remove()
        super().close()

    def _sums(self) -> Sums | None:
        """Where clipped gradients are added up; here, by default."""
        return None

    def _physical(self, batch: Batch) -> Iterator[Batch]:
        """What this rank computes of a step."""
        return physical(self._share(batch), self._micro_batch)

    def _backward(self, part: Batch) -> Tensor:
        """Adds the clipped gradients of one physical batch; (3,): sum of losses, targets, units that were not finite."""
        assert part.unit_B is not None
        inputs_BT, targets_BT, unit_B = map(self._put, (part.inputs_BT, part.targets_BT, part.unit_B))
        units = Units(torch.from_numpy(part.unit_B))
        self._clipper.begin(units)
        with self._precision.autocast():
            losses_BT = self._losses(inputs_BT, targets_BT)
        # A unit's loss is the mean over its own targets: a denominator of the whole batch would tie units together.
        learned_B = learned(targets_BT).sum(1)
        learned_U = torch.zeros(units.count, dtype=torch.int64, device=self.device)
        learned_U.index_add_(0, unit_B, learned_B)
        losses_B = losses_BT.sum(1) / learned_U[unit_B].clamp(min=1)
        clipped = self._clipper.backward(losses_B)
        finite_B = losses_B.detach().isfinite()  # one broken unit does not hide the loss of the others
        loss = torch.where(finite_B[:, None], losses_BT.detach(), 0).sum()
        counts = (learned_B * finite_B).sum(), torch.tensor(clipped.not_finite, device=self.device)
        return torch.stack([loss.double(), *(count.double() for count in counts)])

    def _set_gradients(self, step: int) -> float:
        """Sum plus noise over the expected batch becomes each parameter's gradient; returns its norm."""
        sums = self._clipper.take()
        squares = []
        for name, gradient in zip(sums, self._combined([*sums.values()], step), strict=True):
            squares.append(gradient.square().sum())
            weight = self._clipper.parameters[name]
            weight.grad = gradient.to(weight.dtype)
        return math.sqrt(sum(torch.stack(squares).tolist()))

    def _noisy(self, totals: list[Total], step: int) -> list[Tensor]:
        deviation = self._mechanism.noise_multiplier * self._clipper.norm
        noisy = self._noise.add(totals, deviation, step=step)
        return [total.div_(self._mechanism.expected_batch) for total in noisy]

    def _combined(self, sums: list[Tensor], step: int) -> list[Tensor]:
        try:
            return self._adding.combine(sums, lambda totals: self._noisy(totals, step))
        except RuntimeError as error:
            if self._ranks.count == 1:
                raise
            raise self._ranks.lost(error) from error
