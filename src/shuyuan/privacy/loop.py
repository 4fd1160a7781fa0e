"""Private training in one's own PyTorch loop: five lines around it, and the model stays the plain module that it is."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import PrivacyError
from ..models.digest import weights_digest
from ..recipe import DATA_SET_NAME
from .clipping import Clipped, Clipper, Units, no_backward
from .data_sets import DataSetLedger
from .ledger import Ledger
from .mechanism import Clipping, Mechanism, mechanism
from .noise import Noise, Total
from .ranks import Ranks, refuse_wrapped
from .sampling import PoissonSampler


def make_private(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    units: int | Sequence[Any] | NDArray[Any],
    expected_batch: float,
    steps: int,
    epsilon: float | None = None,
    noise_multiplier: float | None = None,
    delta: float | Literal["auto"] = "auto",
    clip: float | Literal["auto"] = 1.0,
    clipping: Clipping = "joint",
    records_per_unit: int = 1,
    data_set: str | None = None,
    unit_by: str | None = None,
    insecure_seed: int | None = None,
) -> PrivateLoop:
    """Makes the training of a model private: clipping, noise, sampling and accounting around an ordinary loop.

    Under torchrun every rank calls it alike, with a replica of the model and all units, and is given its share of each step.

    Args:
        model: any module; its class and its weights stay as they are.
        optimizer: any optimizer of PyTorch over the model's parameters.
        units: how many records there are, if each is a unit; else for each record whose it is.
        expected_batch: units a step on average.
        steps: of the whole training; the loop ends there.
        epsilon: what all steps together may cost; or give `noise_multiplier`.
        noise_multiplier: the noise's deviation over the clip.
        delta: δ; "auto" is min(1e-5, 1/(10·units)).
        clip: the largest norm of one unit's part of a step; "auto" brings each to norm 1.
        clipping: "joint" over all parameters, or "per-layer".
        records_per_unit: a unit with more gives so many of them, drawn anew at each step.
        data_set: the name (`data.id`) under which the costs of all runs and loops on the same records add up; all steps are
            entered there before the first is made. Left out, the loop stands in no ledger.
        unit_by: what makes a unit, as runs on the data set say it: the column of owners (`data.owner`), or what a record is
            (`data.record`). Costs with the same words add up; of others the ledger says that they are there.
        insecure_seed: for tests alone: sampling and noise then follow from a number that others can guess.

    Raises:
        PrivacyError: the model or the numbers allow no guarantee, or the ledger of the data set cannot be written.

    Example:
        >>> private = make_private(model, optimizer, units=len(data), expected_batch=64, steps=500, epsilon=3)
        >>> for batch in private.batches(micro_batch=16):
        ...     for rows in batch:
        ...         private.backward(losses(model, data[rows]))   # one loss a row
        ...     private.step()
    """
    numbers, by_record = _numbered(units)
    if records_per_unit < 1:
        raise PrivacyError(
            "privacy.bad-value",
            f"records_per_unit = {records_per_unit} is refused.",
            where="records_per_unit",
            mend="Give at least 1.",
        )
    count = int(numbers.max()) + 1 if len(numbers) else 0
    found = mechanism(
        units=count,
        expected_batch=expected_batch,
        steps=steps,
        epsilon=epsilon,
        noise_multiplier=noise_multiplier,
        delta=delta,
        clip=clip,
        clipping=clipping,
        unit="record" if by_record else "owner",
    )
    secret = secrets.token_bytes(32)
    if insecure_seed is not None:
        secret = insecure_seed.to_bytes(32, "big")
    ledger = _ledger_of(data_set, found.unit, unit_by)
    return PrivateLoop(model, optimizer, found, numbers, records_per_unit, secret, ledger)


class PrivateLoop:
    """The private part of a training loop; `make_private` makes one.

    Attributes:
        mechanism: what is done at every step.
        steps: made so far.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        mechanism: Mechanism,
        unit_of_record: NDArray[np.int64],
        records_per_unit: int,
        secret: bytes,
        data_set: DataSetLedger | None = None,
    ) -> None:
        refuse_wrapped(model)
        self.mechanism = mechanism
        self.steps = 0
        self._optimizer = optimizer
        self._clipper = Clipper(model, mechanism.clip, mechanism.clipping)
        self._ranks = Ranks(next(iter(self._clipper.parameters.values())).device)
        if self._ranks.count > 1:
            settings = (mechanism, records_per_unit, [*self._clipper.parameters])
            self._ranks.agree("weights", weights_digest(model).encode())
            self._ranks.agree("units", unit_of_record.tobytes())
            self._ranks.agree("settings", repr(settings).encode())
            secret = self._ranks.first_of(secret)
        self._sampler = PoissonSampler(secret, mechanism.units, mechanism.sampling_rate)
        self._noise = Noise(secret)
        self._ledger: Ledger | None = None
        if data_set is not None and self._ranks.number == 0:
            self._ledger = Ledger([data_set], mechanism, secret)
        self._stepping = False
        self._order = np.argsort(unit_of_record, kind="stable")
        self._starts = np.searchsorted(unit_of_record[self._order], np.arange(mechanism.units + 1))
        self._records_per_unit = records_per_unit
        self._check_optimizer()
        self._batch: Batch | None = None
        self._guard = optimizer.register_step_pre_hook(self._refuse_foreign_step)

    @property
    def epsilon(self) -> float:
        """ε spent by the steps made so far, at the mechanism's δ."""
        return self.mechanism.epsilon(self.steps)

    def batches(self, micro_batch: int | None = None) -> Iterator[Batch]:
        """One batch a step, to the last step.

        Args:
            micro_batch: the most records computed at once; by default the whole batch is. No unit is cut in two.

        Raises:
            PrivacyError: a batch ended without `step`, or all planned steps are made, as in a second loop over epochs.
        """
        if micro_batch is not None and micro_batch < self._records_per_unit:
            raise PrivacyError(
                "privacy.small-micro-batch",
                f"A unit may give {self._records_per_unit} records, and micro_batch is {micro_batch}.",
                mend="Raise micro_batch, or lower records_per_unit.",
            )
        if self.steps >= self.mechanism.steps:
            raise self._all_made()
        while self.steps < self.mechanism.steps:
            made = self.steps
            self._clipper.discard()  # what a loop that was broken off in the middle of a batch has left
            self._batch = Batch(self._clipper, list(self._physical(self.steps + 1, micro_batch)))
            yield self._batch
            if self.steps == made:
                raise PrivacyError(
                    "privacy.no-step",
                    "A batch ended without `step()`.",
                    mend="Call private.step() once at the end of every batch, also of an empty one.",
                )

    def backward(self, losses: Tensor) -> Clipped:
        """The backward pass of one physical batch.

        Args:
            losses: one a row (N,), each of its own row alone.

        Returns:
            Norms and clip factors, which say something about records: keep them inside.
        """
        return self._clipper.backward(losses)

    def step(self) -> None:
        """Adds noise, divides by the expected batch, lets the optimizer step, and notes what it cost.

        Raises:
            PrivacyError: all planned steps are made, the batch had no `backward` yet, or the optimizer got other parameters meanwhile.
        """
        if self.steps >= self.mechanism.steps:
            raise self._all_made()
        if self._batch is None or not self._batch.done:
            raise no_backward()
        self._check_optimizer()
        self._batch = None
        if self.steps == 0 and self._ledger is not None:
            self._ledger.steps(1, self.mechanism.steps)
        # Counted first: whatever fails from here on, the noise of this step is never added to another sum.
        self.steps += 1
        sums = self._ranks.combine(list(self._clipper.take().values()), self._noisy)
        for weight, noisy in zip(self._clipper.parameters.values(), sums, strict=True):
            weight.grad = noisy.div_(self.mechanism.expected_batch).to(weight.dtype)
        self._stepping = True
        try:
            self._optimizer.step()
        finally:
            self._stepping = False
            self._optimizer.zero_grad(set_to_none=True)

    def close(self) -> None:
        """Takes all hooks away: model and optimizer are ordinary ones again."""
        self._clipper.remove()
        self._guard.remove()

    # -- inside --

    def _all_made(self) -> PrivacyError:
        return PrivacyError(
            "privacy.spent",
            f"All {self.mechanism.steps:,} steps that the noise was computed for are made.",
            mend="Give make_private the steps of all epochs together, before training begins; afterwards the guarantee is used up.",
        )

    def _noisy(self, totals: list[Total]) -> list[Tensor]:
        """The sums of some parameters over all units of this step, with their noise."""
        deviation = self.mechanism.noise_multiplier * self._clipper.norm
        return self._noise.add(totals, deviation, step=self.steps)

    def _physical(self, step: int, micro_batch: int | None) -> Iterator[tuple[NDArray[np.int64], Units]]:
        """This rank's records of a step in parts of at most `micro_batch`, each with the units that they belong to."""
        rows: list[NDArray[np.int64]] = []
        for records in self._records(step):
            if micro_batch is not None and sum(map(len, rows)) + len(records) > micro_batch:
                yield _together(rows)
                rows = []
            rows.append(records)
        if rows:
            yield _together(rows)

    def _records(self, step: int) -> Iterator[NDArray[np.int64]]:
        """The records that each unit of a step gives, of the units that fall to this rank: one whole unit after another."""
        drawn = self._sampler.draw(step)
        choose = np.random.default_rng(self._sampler.words(step, 1, 4))
        for place, unit in enumerate(drawn.tolist()):
            records = self._order[self._starts[unit] : self._starts[unit + 1]]
            if len(records) > self._records_per_unit:  # chosen on all ranks alike
                records = np.sort(choose.choice(records, self._records_per_unit, replace=False))
            if place % self._ranks.count == self._ranks.number:
                yield records

    def _check_optimizer(self) -> None:
        """The optimizer must step exactly what the clip sees: a parameter beside it would get no noise, or no gradient."""
        there = {id(weight) for group in self._optimizer.param_groups for weight in group["params"]}
        for name, weight in self._clipper.parameters.items():
            if id(weight) not in there:
                raise PrivacyError(
                    "privacy.not-in-optimizer",
                    f"The parameter {name} is trainable, and the optimizer does not have it.",
                    where=name,
                    mend="Give it to the optimizer, or freeze it: requires_grad_(False).",
                )
            there.discard(id(weight))
        for group in self._optimizer.param_groups:
            if any(
                id(weight) in there and (weight.requires_grad or weight.grad is not None)
                for weight in group["params"]
            ):
                raise PrivacyError(
                    "privacy.unseen-parameter",
                    "The optimizer has a parameter that the clip does not see, and would step it without noise.",
                    mend="Make one model of all that is trained, set requires_grad first, and clear old gradients.",
                )

    def _refuse_foreign_step(self, *_: Any) -> None:
        if not self._stepping:
            raise PrivacyError(
                "privacy.foreign-step",
                "The optimizer was stepped by itself, without noise.",
                mend="Call private.step() instead of optimizer.step(); if make_private was called again, close() the first loop.",
            )


class Batch:
    """The records of one step: iterate once over its physical batches, with a `backward` for each. It may be empty."""

    def __init__(self, clipper: Clipper, parts: list[tuple[NDArray[np.int64], Units]]) -> None:
        self._clipper = clipper
        self._parts = parts
        self._given = 0

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Record numbers of each physical batch.

        Raises:
            PrivacyError: the batch was iterated over before: its units would be added twice.
        """
        if self._given:
            raise PrivacyError(
                "privacy.batch-again",
                "This batch was iterated over before; its units would count twice.",
                mend="Keep the record numbers if you need them again, or take the batch anew from private.batches().",
            )
        for rows, units in self._parts:
            self._clipper.begin(units)
            self._given += 1
            yield rows

    @property
    def done(self) -> bool:
        """Whether every physical batch was given out and went backward."""
        return self._given == len(self._parts) and not self._clipper.waiting


def _ledger_of(data_set: str | None, unit: str, unit_by: str | None) -> DataSetLedger | None:
    if data_set is None:
        return None
    if not re.fullmatch(DATA_SET_NAME, data_set):
        raise PrivacyError(
            "privacy.bad-value",
            f"data_set = {data_set!r} is refused.",
            where="data_set",
            mend="Give letters, digits, '.', '_' and '-', at most 64 of them, the first a letter or digit.",
        )
    writer = f"a loop in {Path.cwd()}"
    ledger = DataSetLedger(data_set, writer=writer, source=data_set, unit=unit, unit_by=unit_by)
    ledger.check_writable()
    return ledger


def _numbered(units: int | Sequence[Any] | NDArray[Any]) -> tuple[NDArray[np.int64], bool]:
    """The unit's number of each record, and whether each record is a unit of its own."""
    if isinstance(units, int | np.integer):
        return np.arange(int(units)), True
    try:
        return np.unique(np.asarray(units).reshape(-1), return_inverse=True)[1], False
    except TypeError:
        raise PrivacyError(
            "privacy.bad-units",
            "The units cannot be told apart: some are missing, or of different kinds.",
            where="units",
            mend="Give a number or a name for every record.",
        ) from None


def _together(rows: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], Units]:
    unit_N = np.repeat(np.arange(len(rows)), [len(records) for records in rows])
    return np.concatenate(rows), Units(torch.from_numpy(unit_N))
