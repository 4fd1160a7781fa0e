"""The gradient of each unit for one parameter, kept in the cheapest form until the clip factors are known.

Three forms. Dense: every unit's gradient as an array. Outer: what a matrix gets, G^T A, left as its two factors (the
"ghost"). Rows: what an embedding gets, a few rows of it. All of a parameter's uses are kept in one place, so that their
cross terms count: a tied head and embedding, or a module that is called several times.

Legend: U units, T positions of a unit, O rows and I columns of a matrix, E elements of a parameter.

Reference: Li et al., "Large language models can be strong differentially private learners", ICLR 2022 (the ghost norm);
Bu et al., "Differentially private optimization on large model at small cost", ICML 2023 (one backward pass).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from ..cost import prefers_dense
from .float32 import at_least_float32

CANCELLED = 2.0**-10
CHUNK = 2**18  # elements of a parameter summed at once: they stay in the processor's cache
DEVICE_ELEMENTS = 2**26  # the same on a GPU, of all units together
GRAM_ELEMENTS = 2**24  # of float64 factors or T x T products held at once


class Contributions:
    """All that the units of one physical batch add to one parameter's gradient.

    Args:
        parameter: whose gradient it is.
        units: U.
        lent: the factors that it is given are only lent: those that it keeps, it copies.
    """

    def __init__(self, parameter: Tensor, units: int, *, lent: bool = False) -> None:
        self._shape = parameter.shape
        self._units = units
        self._lent = lent
        self._dense_UE: Tensor | None = None
        self._by_unit: Tensor | None = None  # the same, filled unit by unit
        self._outers: list[tuple[Tensor, Tensor]] = []  # (A_UTI, G_UTO)
        self._rows: list[tuple[Tensor, Tensor]] = []  # (ids_US, G_USI)

    # -- what modules add --

    def add_dense(self, gradient: Tensor) -> None:
        """One array of (U, *shape); it becomes this object's own, to keep and to add to."""
        gradient_UE = gradient.reshape(self._units, -1)
        if self._dense_UE is None:
            self._dense_UE = gradient_UE
        else:
            self._dense_UE = at_least_float32(self._dense_UE) + gradient_UE

    def add_of_unit(self, unit: int, gradient: Tensor) -> None:
        """The gradient of one unit alone."""
        if self._by_unit is None:
            exact = torch.promote_types(gradient.dtype, torch.float32)
            self._by_unit = gradient.new_zeros(self._units, gradient.numel(), dtype=exact)
        self._by_unit[unit] += gradient.flatten()

    def add_outer(self, A_UTI: Tensor, G_UTO: Tensor) -> None:
        """G^T A for each unit, of a parameter of shape (O, I)."""
        A_UTI = A_UTI.to(G_UTO.dtype)
        rows, columns = self._shape
        dense = prefers_dense(A_UTI.shape[1], rows, columns, G_UTO.device.type, G_UTO.element_size())
        if dense or self._dense_UE is not None:
            self.add_dense(torch.bmm(G_UTO.transpose(1, 2), A_UTI))
        elif self._lent:
            self._outers.append((A_UTI.clone(), G_UTO.clone()))
        else:
            self._outers.append((A_UTI, G_UTO))

    def add_rows(self, ids_US: Tensor, G_USI: Tensor) -> None:
        """For each unit and position, one row of a parameter of shape (O, I)."""
        self._rows.append((ids_US, G_USI))

    # -- what the clip asks --

    def square_norms(self) -> Tensor:
        """The squared norm of each unit's gradient, float32 or better (U,)."""
        self._settle()
        if self._dense_UE is not None and not self._rows:
            return self._dense_norms().square()
        total = torch.zeros(self._units, dtype=torch.float64, device=self._device())
        at_most = torch.zeros_like(total)  # the norm if nothing cancelled
        if self._dense_UE is not None:
            at_most = at_most + self._dense_norms().double()
            total = total + at_most.square()
        for A_UTI, G_UTO in self._outers:
            total = total + _outer_norms(A_UTI, G_UTO)
            at_most = at_most + (_lengths(A_UTI) * _lengths(G_UTO)).sum(1)
        for ids_US, G_USI in self._rows:
            total = total + self._row_norms(ids_US, G_USI)
            at_most = at_most + _lengths(G_USI).sum(1)
        if self._dense_UE is not None:
            total = total + 2 * _inner(self._dense_UE.view(self._units, *self._shape), *self._rows[0])
        if self._outers and self._rows:
            total = total + 2 * _cross(*self._outers[0], *self._rows[0])
        # Where parts nearly cancel, the sum below keeps their rounding; so no norm counts as less than a share of them.
        return total.clamp(min=0) + (CANCELLED * at_most).square()

    def add_clipped(self, total: Tensor, factors_U: Tensor, *, compiled: bool = False) -> None:
        """Adds the sum over units of factor times gradient to `total`, of the parameter's shape, in its precision.

        Args:
            total: of the parameter.
            factors_U: of each unit.
            compiled: arrays are passed through once, by a kernel of torch's compiler.
        """
        self._settle()
        if self._dense_UE is not None and compiled:
            _compiled_sum()(total.view(-1), self._dense_UE, factors_U)
        elif self._dense_UE is not None:
            factors_U = factors_U.to(total.dtype)
            chunk = CHUNK if total.device.type == "cpu" else max(1, DEVICE_ELEMENTS // self._units)
            parts = zip(
                torch.split(total.view(-1), chunk), torch.split(self._dense_UE, chunk, 1), strict=True
            )
            for part, dense_UE in parts:  # no second copy of it all in the total's precision
                part.addmv_(dense_UE.to(total.dtype).T, factors_U)
        for A_UTI, G_UTO in self._outers:
            # In the total's precision also where the factors are in half: a product that ends in half precision would
            # round the sum, and a rounded sum can move further than the clip allows.
            weighted_UTO = G_UTO.to(total.dtype) * factors_U.to(total.dtype)[:, None, None]
            total.addmm_(weighted_UTO.flatten(0, 1).T, A_UTI.to(total.dtype).flatten(0, 1))
        for ids_US, G_USI in self._rows:
            weighted_USI = G_USI.to(total.dtype) * factors_U.to(total.dtype)[:, None, None]
            total.index_add_(0, ids_US.flatten(), weighted_USI.flatten(0, 1))

    def drop(self, bad_U: Tensor) -> None:
        """Makes the gradient of some units zero: of those that are not finite, which no factor could mend."""
        keep = ~bad_U
        if self._dense_UE is not None:
            self._dense_UE = torch.where(keep[:, None], self._dense_UE, 0)
        self._outers = [(_kept(A, keep), _kept(G, keep)) for A, G in self._outers]
        self._rows = [(ids, _kept(G, keep)) for ids, G in self._rows]

    # -- inside --

    def _settle(self) -> None:
        """Brings all uses together: an array or one pair of factors, and one list of rows.

        Rows stay apart from an array: the sum of both would need another, in float32, as large as the array is.
        """
        if self._by_unit is not None:
            self.add_dense(self._by_unit)
            self._by_unit = None
        self._rows = _joined(self._rows)
        if self._dense_UE is None:
            self._outers = _joined(self._outers)
            return
        for A_UTI, G_UTO in self._outers:
            self.add_dense(torch.bmm(G_UTO.transpose(1, 2), A_UTI))
        self._outers = []

    def _dense_norms(self) -> Tensor:
        assert self._dense_UE is not None
        exact = torch.promote_types(self._dense_UE.dtype, torch.float32)
        norms: Tensor = torch.linalg.vector_norm(self._dense_UE, dim=1, dtype=exact)
        return norms

    def _row_norms(self, ids_US: Tensor, G_USI: Tensor) -> Tensor:
        """Rows that a unit uses several times are added up before they are squared."""
        units = torch.arange(self._units, device=ids_US.device)[:, None]
        keys, place = torch.unique(ids_US * self._units + units, return_inverse=True)
        summed = torch.zeros(len(keys), G_USI.shape[2], dtype=torch.float64, device=G_USI.device)
        summed.index_add_(0, place.flatten(), G_USI.double().flatten(0, 1))
        norms = summed.new_zeros(self._units)
        return norms.index_add_(0, keys % self._units, summed.square().sum(1))

    def _device(self) -> torch.device:
        return next((G.device for _, G in self._outers + self._rows), torch.device("cpu"))


def _add_weighted(total_E: Tensor, dense_UE: Tensor, factors_U: Tensor) -> None:
    total_E += (dense_UE.to(total_E.dtype) * factors_U.to(total_E.dtype)[:, None]).sum(0)


@cache
def _compiled_sum() -> Callable[[Tensor, Tensor, Tensor], None]:
    return torch.compile(_add_weighted, dynamic=True)


def _outer_norms(A_UTI: Tensor, G_UTO: Tensor) -> Tensor:
    """|G^T A|² = sum of (A A^T) * (G G^T), for each unit; in float64, since large terms may cancel."""
    T = A_UTI.shape[1]
    chunk = max(1, GRAM_ELEMENTS // (T * max(T, A_UTI.shape[2], G_UTO.shape[2])))
    norms = []
    for A, G in zip(torch.split(A_UTI, chunk), torch.split(G_UTO, chunk), strict=True):
        A, G = A.double(), G.double()
        gram = torch.bmm(A, A.transpose(1, 2)).mul_(torch.bmm(G, G.transpose(1, 2)))
        norms.append(gram.sum((1, 2)))
    return torch.cat(norms)


def _cross(A_UTI: Tensor, G_UTO: Tensor, ids_US: Tensor, rows_USI: Tensor) -> Tensor:
    """<G^T A, the matrix of these rows>, for each unit: the sum over s, t of G[t, ids[s]] · <A[t], rows[s]>."""
    products = []
    for A, G, ids, rows in zip(A_UTI, G_UTO, ids_US, rows_USI, strict=True):
        inner_TS = A.double() @ rows.double().T
        products.append((G[:, ids].double() * inner_TS).sum())
    return torch.stack(products)


def _inner(dense_UOI: Tensor, ids_US: Tensor, rows_USI: Tensor) -> Tensor:
    """<the array, the matrix of these rows>, for each unit: the sum over s of <array[ids[s]], rows[s]>."""
    units = torch.arange(len(ids_US), device=ids_US.device)[:, None]
    return (dense_UOI[units, ids_US].double() * rows_USI.double()).sum((1, 2))


def _lengths(x_UTC: Tensor) -> Tensor:
    """The norm at each position (U, T), float64."""
    return torch.linalg.vector_norm(x_UTC, dim=-1, dtype=torch.float64)  # type: ignore[no-any-return]


def _joined(pairs: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    if len(pairs) < 2:
        return pairs
    return [(torch.cat([first for first, _ in pairs], 1), torch.cat([second for _, second in pairs], 1))]


def _kept(array: Tensor, keep_U: Tensor) -> Tensor:
    return torch.where(keep_U.view(-1, *[1] * (array.ndim - 1)), array, 0)
