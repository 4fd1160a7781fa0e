"""Several processes that train one model together (torchrun): each has a replica, and its share of a step's units.

A unit lives on one rank, so that norms need no other rank. The sums of a parameter go to one rank, its owner, which adds
the noise, and all others get a copy of the outcome: the noise is there once, at its full deviation, and every replica
steps by the same bits. Each step makes the same collective calls on every rank, whatever units it has, or none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import PrivacyError
from .noise import Total

# By name, so that none of them has to be imported.
WRAPPERS = {
    "DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "FSDPModule", "DeepSpeedEngine",
}  # fmt: skip


class Ranks:
    """The ranks of torch.distributed; one, where it was not set up.

    Args:
        device: where collective calls happen: that of the model.
        alone: this process works by itself, whoever else is there.

    Attributes:
        number: of this process.
        count: how many there are.
    """

    def __init__(self, device: torch.device, *, alone: bool = False) -> None:
        together = not alone and dist.is_available() and dist.is_initialized()
        self.number = dist.get_rank() if together else 0
        self.count = dist.get_world_size() if together else 1
        self._device = device

    def first_of(self, secret: bytes) -> bytes:
        """The secret of rank 0, on all.

        Args:
            secret: of this rank, as long as that of rank 0.
        """
        carried = self._tensor(secret)
        dist.broadcast(carried, 0)
        return bytes(carried.tolist())

    def agree(self, what: str, value: bytes) -> None:
        """Looks whether something is the same on all ranks.

        Args:
            what: its name, for the error.
            value: whose digests are compared.

        Raises:
            PrivacyError: it is not; all ranks say so, and name the first that differs.
        """
        mine = self._tensor(hashlib.sha256(value).digest())
        all_of_them = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(all_of_them, mine)
        for rank, other in enumerate(all_of_them):
            if not torch.equal(other, all_of_them[0]):
                raise PrivacyError(
                    "privacy.other-rank",
                    f"Rank {rank} begins with other {what} than rank 0.",
                    where=what,
                    mend="Give make_private the same on every rank: weights from one seed or file, all units, not a share.",
                )

    def combine(self, sums: list[Tensor], finish: Callable[[list[Total]], list[Tensor]]) -> list[Tensor]:
        """Sums over all ranks, each finished by one of them, with the same bits on all.

        Args:
            sums: what this rank adds, a tensor a parameter; they are overwritten.
            finish: makes of some parameters' sums what all ranks get.
        """
        totals = [Total(number, total) for number, total in enumerate(sums)]
        if self.count == 1:
            return finish(totals)
        for total in totals:
            dist.reduce(total.sum, self._owner(total.number))
        own = [total for total in totals if self._owner(total.number) == self.number]
        whole = list(sums)
        for total, finished in zip(own, finish(own), strict=True):
            whole[total.number] = finished
        for number, combined in enumerate(whole):
            dist.broadcast(combined, self._owner(number))
        return whole

    def _owner(self, number: int) -> int:
        return number % self.count

    def _tensor(self, content: bytes) -> Tensor:
        return torch.tensor(list(content), dtype=torch.uint8, device=self._device)


def refuse_wrapped(model: nn.Module) -> None:
    """Refuses a model whose wrapper averages gradients, or splits rows or parameters, where no clip sees it."""
    for name, module in model.named_modules():
        wrapper = next((kind.__name__ for kind in type(module).__mro__ if kind.__name__ in WRAPPERS), None)
        sharded = any(type(weight).__name__ == "DTensor" for weight in module.parameters(recurse=False))
        if wrapper or sharded:
            raise PrivacyError(
                "privacy.wrapped-model",
                f"{name or 'The model'} is "
                f"{f'wrapped in {wrapper}' if wrapper else 'sharded (DTensor)'}, which handles gradients by itself.",
                where=name or None,
                mend="Give the plain model, whole on every rank (wrapped.module): make_private sums over ranks.",
            )
