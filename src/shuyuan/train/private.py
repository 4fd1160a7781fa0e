"""Private training: the mechanism that a recipe asks for, the secret that it draws from, and the steps themselves."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import hardware as machines
from ..data import NOTHING, Manifest, UnitRows
from ..errors import PrivacyError
from ..privacy import Clipper, Mechanism, Noise, PoissonSampler, Units, derive
from ..recipe import Recipe, Train
from ..vault import Store
from .augment import moved
from .backend import Batch, Figures
from .torch_backend import TorchBackend

SECRET_FILE = "privacy-secret.json"
SHAPES = 4  # different heights of a physical batch


class PrivateBackend(TorchBackend):
    """Trains a model with clipped and noised sums of its units' gradients.

    Whatever the gradients are, a step is made: none is skipped, scaled or repeated for what the records hold.

    Args:
        model: as for `TorchBackend`, with `losses` for each target.
        train: the recipe's section, resolved.
        hardware: where it runs.
        mechanism: what a step does.
        secret: 32 bytes, from which the noise follows.
    """

    def __init__(
        self, model: Any, train: Train, hardware: machines.Hardware, mechanism: Mechanism, secret: bytes
    ) -> None:
        super().__init__(model, train, hardware)
        self._mechanism = mechanism
        self._clipper = Clipper(self.model, mechanism.clip, mechanism.clipping)
        self._noise = Noise(secret)
        self._losses: Callable[[Tensor, Tensor], Tensor] = model.losses

    def step(self, batch: Batch, learning_rate: float) -> Figures:
        """One step, also with an empty batch. The figures tell of records: they stay inside.

        Args:
            batch: with the unit of each row.
            learning_rate: for all parameters.
        """
        self.model.train()
        total, targets, bad = 0.0, 0, 0
        for part in physical(batch, self._micro_batch):
            loss, count, not_finite = self._backward(part)
            total, targets, bad = total + loss, targets + count, bad + not_finite
        norm = self._set_gradients(batch.step)
        self._optimizers.step(learning_rate)
        self.model.zero_grad(set_to_none=True)
        return Figures(total / targets if targets else math.nan, norm, targets, not_finite=bad)

    def close(self) -> None:
        """Takes the hooks off the model."""
        self._clipper.remove()

    def _backward(self, part: Batch) -> tuple[float, int, int]:
        """Adds the clipped gradients of one physical batch; (sum of losses, targets, units that were not finite)."""
        assert part.unit_B is not None
        inputs_BT, targets_BT = self._put(part.inputs_BT), self._put(part.targets_BT)
        units = Units(self._put(part.unit_B))
        self._clipper.begin(units)
        with self._precision.autocast():
            losses_BT = self._losses(inputs_BT, targets_BT)
        # A unit's loss is the mean over its own targets: a denominator of the whole batch would tie units together.
        learned_B = (targets_BT >= 0).sum(1)
        learned_U = torch.zeros(units.count, dtype=torch.int64, device=self.device)
        learned_U.index_add_(0, self._put(part.unit_B), learned_B)
        losses_B = losses_BT.sum(1) / learned_U[self._put(part.unit_B)].clamp(min=1)
        clipped = self._clipper.backward(losses_B)
        finite_B = losses_B.isfinite()  # one broken unit does not hide the loss of the others
        return losses_BT.detach()[finite_B].sum().item(), int(learned_B[finite_B].sum()), clipped.not_finite

    def _set_gradients(self, step: int) -> float:
        """Sum plus noise over the expected batch becomes each parameter's gradient; returns its norm."""
        mechanism, square = self._mechanism, 0.0
        deviation = mechanism.noise_multiplier * self._clipper.norm
        for number, (name, total) in enumerate(self._clipper.take().items()):
            noisy = self._noise.add(total, deviation, step=step, number=number).div_(mechanism.expected_batch)
            square += float(noisy.square().sum())
            weight = self._clipper.parameters[name]
            weight.grad = noisy.to(weight.dtype)
        return math.sqrt(square)


def physical(batch: Batch, micro_batch: int) -> Iterator[Batch]:
    """The rows of a batch in parts of at most `micro_batch`; a unit with more rows is a part of its own, and never cut."""
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


# ---- the secret ------------------------------------------------------------------------------------------------------


def run_secret(store: Store, recipe: Recipe, identity: dict[str, Any], *, begun: bool) -> bytes:
    """The secret of this recipe and this data: made at the first start, found again at every later one.

    Args:
        store: keeps it, sealed in a sealed run, until `erase_secret`.
        recipe: may ask for an insecure one.
        identity: what shapes the result, with the digest of the "weights" to start from; another one gives another secret,
            so that no noise is ever used for two sums.
        begun: whether some steps are made, and others are still to be made.

    Raises:
        PrivacyError: steps were made, and the secret is gone, or was of other weights to start from.
    """
    assert recipe.privacy is not None
    if recipe.privacy.insecure_seed is not None:
        secret = recipe.privacy.insecure_seed.to_bytes(32, "big")
    else:
        kept = store.read_json(SECRET_FILE) if store.exists(SECRET_FILE) else {}
        if begun and not kept:
            raise PrivacyError(
                "privacy.secret-lost",
                "Steps were made with a secret that is gone; with another one, more would be spent than was promised.",
                where=str(store.path),
                mend="Begin a new run in another folder; the ledger of this one keeps what it spent.",
            )
        if begun and kept["weights"] != identity["weights"]:
            raise PrivacyError(
                "privacy.other-start",
                "Steps were made from other weights than those that the recipe names now; with these, other noise would "
                "be drawn, and more would be spent than was promised.",
                where="model.from",
                mend="Put the weights back, or begin a new run in another folder.",
            )
        if kept.get("weights") != identity["weights"]:
            kept = {"secret": os.urandom(32).hex(), "weights": identity["weights"]}
            store.write_json(SECRET_FILE, kept)
        secret = bytes.fromhex(kept["secret"])
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return derive(secret, f"run {digest}")


def erase_secret(store: Store) -> None:
    """Nobody can compute the noise again, and so subtract it."""
    if store.exists(SECRET_FILE):
        store.remove(SECRET_FILE)
