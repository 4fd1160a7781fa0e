"""Private steps in PyTorch: clipped gradients of each unit, summed and noised."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .. import hardware as machines
from ..privacy import Clipper, Mechanism, Noise, Ranks, Sums, Units
from ..recipe import Train
from .backend import Batch, Figures, learned
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
        self._noise = Noise(secret)
        self._adding = Ranks(torch.device(self.device), alone=ranks.count == 1)
        self._losses: Callable[[Tensor, Tensor], Tensor] = self.model.losses  # type: ignore[assignment]

    def step(self, batch: Batch, learning_rate: float) -> Figures:
        """One step, also with an empty batch. The figures tell of records: they stay inside.

        Args:
            batch: with the unit of each row.
            learning_rate: for all parameters.
        """
        self._begin(batch)
        total, targets, bad = 0.0, 0, 0
        for part in self._physical(batch):
            loss, count, not_finite = self._backward(part)
            total, targets, bad = total + loss, targets + count, bad + not_finite
        total, *counts = self._ranks.total(total, targets, bad)
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

    def _backward(self, part: Batch) -> tuple[float, int, int]:
        """Adds the clipped gradients of one physical batch; (sum of losses, targets, units that were not finite)."""
        assert part.unit_B is not None
        inputs_BT, targets_BT = self._put(part.inputs_BT), self._put(part.targets_BT)
        units = Units(self._put(part.unit_B))
        self._clipper.begin(units)
        with self._precision.autocast():
            losses_BT = self._losses(inputs_BT, targets_BT)
        # A unit's loss is the mean over its own targets: a denominator of the whole batch would tie units together.
        learned_B = learned(targets_BT).sum(1)
        learned_U = torch.zeros(units.count, dtype=torch.int64, device=self.device)
        learned_U.index_add_(0, self._put(part.unit_B), learned_B)
        losses_B = losses_BT.sum(1) / learned_U[self._put(part.unit_B)].clamp(min=1)
        clipped = self._clipper.backward(losses_B)
        finite_B = losses_B.isfinite()  # one broken unit does not hide the loss of the others
        return losses_BT.detach()[finite_B].sum().item(), int(learned_B[finite_B].sum()), clipped.not_finite

    def _set_gradients(self, step: int) -> float:
        """Sum plus noise over the expected batch becomes each parameter's gradient; returns its norm."""
        square = 0.0

        def noisy(number: int, total: Tensor) -> Tensor:
            return self._noisy(total, step=step, number=number)

        sums = self._clipper.take()
        for name, gradient in zip(sums, self._combined(list(sums.values()), noisy), strict=True):
            square += float(gradient.square().sum())
            weight = self._clipper.parameters[name]
            weight.grad = gradient.to(weight.dtype)
        return math.sqrt(square)

    def _noisy(self, total: Tensor, **place: int) -> Tensor:
        deviation = self._mechanism.noise_multiplier * self._clipper.norm
        return self._noise.add(total, deviation, **place).div_(self._mechanism.expected_batch)

    def _combined(self, parts: list[Tensor], finish: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
        try:
            return self._adding.combine(parts, finish)
        except RuntimeError as error:
            if self._ranks.count == 1:
                raise
            raise self._ranks.lost(error) from error
