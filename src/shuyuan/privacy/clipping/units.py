"""Which rows of a physical batch belong to which unit.

Legend: N rows of the batch, U units, K rows of the unit that has most, T positions of a row, C anything.
"""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor


class Units:
    """Groups the rows of a batch by the unit that they belong to.

    Args:
        unit_N: for each row, the number of its unit, 0 to U - 1; every number occurs. Best on the CPU: a GPU would have to wait
            until it is looked at.

    Attributes:
        count: U.
        rows: N.
    """

    def __init__(self, unit_N: Tensor) -> None:
        self.rows = len(unit_N)
        self.count = int(unit_N.max()) + 1 if self.rows else 0
        self._unit_N = unit_N
        order_N = torch.argsort(unit_N, stable=True)
        sizes_U = torch.bincount(unit_N, minlength=self.count)
        self._most = int(sizes_U.max()) if self.rows else 0
        self._in_order = bool((order_N == torch.arange(self.rows, device=unit_N.device)).all())
        self._even = self._most * self.count == self.rows
        self._table = torch.empty(0, dtype=torch.int64)
        if not (self._in_order and self._even):
            # Place K·u + k of a table holds the k-th row of unit u, or row N, which is all zeros.
            starts_U = torch.cumsum(sizes_U, 0) - sizes_U
            at_N = torch.arange(self.rows, device=unit_N.device) - starts_U.repeat_interleave(sizes_U)
            self._table = torch.full((self.count * self._most,), self.rows, device=unit_N.device)
            self._table[unit_N[order_N] * self._most + at_N] = order_N

    @classmethod
    def one_a_row(cls, rows: int, device: torch.device | str = "cpu") -> Units:
        """Every row is a unit of its own."""
        return cls(torch.arange(rows, device=device))

    def half(self, losses: int) -> tuple[Tensor, Tensor]:
        """Which losses are of every second unit, and which rows (N,) are.

        Args:
            losses: how many there are: one a row, or one a unit.
        """
        rows_N = self._unit_N % 2 == 0
        return (
            rows_N if losses == self.rows else torch.arange(losses, device=rows_N.device) % 2 == 0
        ), rows_N

    def to(self, device: torch.device) -> Units:
        """The same on another device.

        Args:
            device: where the rows are computed.
        """
        if self._unit_N.device == device:
            return self
        moved = copy(self)
        moved._unit_N, moved._table = self._unit_N.to(device), self._table.to(device)
        return moved

    def of_row(self, row: int) -> int:
        """The unit of a row."""
        return int(self._unit_N[row])

    def positions(self, x: Tensor) -> Tensor:
        """(N, ..., C) becomes (U, T, C): the positions of a unit's rows one after another, zeros where it has fewer."""
        x_NTC = x.reshape(self.rows, -1, x.shape[-1])
        if not (self._in_order and self._even):
            empty = x_NTC.new_zeros(1, *x_NTC.shape[1:])
            x_NTC = torch.cat([x_NTC, empty])[self._table]
        return x_NTC.reshape(self.count, -1, x.shape[-1])

    def sum(self, x: Tensor) -> Tensor:
        """(N, ...) becomes (U, ...): the sum over the rows of each unit.

        Args:
            x: of each row; where every unit has one, the very same comes back.
        """
        if self.count == self.rows and self._in_order:
            return x
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return x.new_zeros(self.count, *x.shape[1:]).index_add_(0, self._unit_N, x)
