"""Batches of private training: whose rows a step sees, and the physical batches that they are computed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import NOTHING, Manifest, UnitRows
from ..errors import PrivacyError
from ..privacy import Mechanism, PoissonSampler
from ..recipe import Recipe
from ..vault import Store
from .augment import moved
from .backend import Batch

SHAPES = 4  # different heights of a physical batch


def physical(batch: Batch, micro_batch: int) -> Iterator[Batch]:
    """The rows of a batch in parts of at most `micro_batch`; a unit with more rows is a part of its own, and never cut.

    Args:
        batch: of private training, its rows in the order of their units; there may be none.
        micro_batch: rows.

    Yields:
        Batches whose units are numbered from 0, filled up with empty rows to one of few heights.
    """
    assert batch.unit_B is not None
    _, sizes = np.unique(batch.unit_B, return_counts=True)
    first = last = 0
    for size in [*sizes.tolist(), math.inf]:
        if last > first and last - first + size > micro_batch:
            yield _part(batch, slice(first, last), micro_batch)
            first = last
        last += 0 if size == math.inf else size


def _part(batch: Batch, rows: slice, micro_batch: int) -> Batch:
    """Some rows, filled up with empty ones to one of few heights.

    Libraries prepare themselves for each new shape of a product and remember it, and coins would make many. All rows stay
    as long as the context: were they cut to the longest, one unit could change how the others are computed and rounded. An
    empty row learns nothing, so the gradient of its own made-up unit is zero.
    """
    assert batch.unit_B is not None
    unit_B = batch.unit_B[rows] - batch.unit_B[rows.start]
    empty = _up(len(unit_B), max(1, micro_batch // SHAPES)) - len(unit_B)
    made_up = unit_B[-1] + 1 + np.arange(empty)
    return Batch(
        batch.step,
        _filled_up(batch.inputs_BT[rows], empty, 0),
        _filled_up(batch.targets_BT[rows], empty, NOTHING),
        np.concatenate([unit_B, made_up]),
    )


def _filled_up(array: NDArray[Any], rows: int, value: int) -> NDArray[Any]:
    """An array with so many more rows of one value."""
    return np.pad(array, ((0, rows), *((0, 0) for _ in array.shape[1:])), constant_values=value)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def private_batches(
    store: Store, manifest: Manifest, recipe: Recipe, mechanism: Mechanism, secret: bytes
) -> Callable[[int], Batch]:
    """The batch of each step, a pure function of secret and step.

    Args:
        store: the run's files.
        manifest: what was prepared.
        recipe: resolved, with a [privacy] table.
        mechanism: what each step does.
        secret: 32 bytes, which say the units of each step.

    Raises:
        PrivacyError: the number of units is not the one that the mechanism was computed for.
    """
    privacy = recipe.privacy
    assert privacy is not None
    rows = UnitRows(store, manifest, recipe.model.context, privacy.unit, privacy.records_per_unit)
    if rows.count != mechanism.units:
        raise PrivacyError(
            "privacy.other-units",
            f"The shards hold {rows.count:,} units, and the mechanism was computed for {mechanism.units:,}.",
            where=str(store.path),
            mend="Prepare and train again in a new folder.",
        )
    sampler = PoissonSampler(secret, mechanism.units, mechanism.sampling_rate)

    def sample(step: int) -> Batch:
        random = np.random.default_rng(sampler.words(step, 1, 4))
        drawn = rows.rows(sampler.draw(step), random)
        # From the same secret stream: what a unit's images become is drawn for each anew, whoever else is in the step.
        return Batch(step, moved(drawn.inputs_NT, recipe, random), drawn.targets_NT, drawn.unit_N)

    return sample
