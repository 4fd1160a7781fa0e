"""The ledger: every release that is computed from private records, what it costs, and what the guarantee leaves out.

Each entry stands before the thing that it accounts for, so that a kill can lose a release and never hide one. Steps that
are made again from a checkpoint draw the same units and the same noise, so they are the same release: entries with the
same `draws` are counted once, however often they stand there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..vault import Journal
from . import accountant
from .mechanism import Mechanism
from .stream import derive

LEDGER_FILE = "ledger.jsonl"
NOT_COVERED = "not covered"
# What each leak accepted by name means.
ALLOWED = {
    "tokenizer": "Vocabulary or merges were learned from the records: a frequent or rare word of a unit may stand in it.",
    "labels": "The names of the labels were found in the records: one that a single unit has stands in the model.",
    "plateau": "The learning rate followed the validation loss of held-out units.",
    "scores": "The model's scores on held-out units stand in the public report: no noise hides what one of these units changes.",
    "tuning": "Settings were chosen after looking at losses or scores of other runs on the same records: the choice tells of them.",
}
UNPROTECTED = "training"  # stands for a run without privacy among what is not covered
UNPROTECTED_MEANS = (
    "The model was trained without privacy: it may have memorised any record, and no ε bounds what it tells."
)


@dataclass(frozen=True)
class Spent:
    """What a ledger adds up to.

    Attributes:
        epsilon: of all entries together; infinite if steps were made without noise.
        delta: the smallest that an entry was stated for, so that the sum is never below the ε of a part.
        steps: all different steps.
        uncovered: names of leaks that no ε covers.
    """

    epsilon: float
    delta: float
    steps: int
    uncovered: list[str]


class Ledger:
    """Writes the ledger of a run.

    Args:
        journals: where each entry goes, in this order: the data set's ledger, then the run's own, whose entries so always
            stand in both.
        mechanism: what the run's steps do.
        secret: what they draw from; the ledger tells secrets apart, and nothing of them.
    """

    def __init__(self, journals: Sequence[Journal], mechanism: Mechanism, secret: bytes) -> None:
        self._journals = journals
        self._mechanism = mechanism
        self._draws = derive(secret, "ledger").hex()[:32]

    def allow(self, names: Iterable[str]) -> None:
        """Notes the leaks that the recipe accepts, each once.

        Args:
            names: as in the recipe's `privacy.allow`.

        Raises:
            KeyError: there is no leak of that name.
        """
        noted = {entry["what"] for entry in self._journals[-1].entries() if entry["event"] == "allowed"}
        for name in names:
            if name not in noted:
                self._note("allowed", what=name, cost=NOT_COVERED, meaning=ALLOWED[name])

    def steps(self, first: int, last: int) -> None:
        """Notes that steps `first` to `last` are about to be written down somewhere.

        Args:
            first, last: numbers of steps from 1 on; both count. A `last` below `first` notes nothing.
        """
        if last < first:
            return
        mechanism = self._mechanism
        self._note(
            "steps",
            mechanism="Poisson sampling of units, joint clip, Gaussian noise"
            if mechanism.clipping == "joint"
            else "Poisson sampling of units, clip for each parameter, Gaussian noise",
            neighbours="add or remove one unit; the number of units is public",
            unit=mechanism.unit,
            units=mechanism.units,
            sampling_rate=mechanism.sampling_rate,
            noise_multiplier=mechanism.noise_multiplier,
            clip=mechanism.clip,
            delta=mechanism.delta,
            **{"from": first, "to": last},
        )

    def release(self, what: str) -> None:
        """Notes that something computed from the steps so far leaves the inside.

        Args:
            what: the name of it, such as "model".
        """
        self._note("release", what=what)

    def _note(self, event: str, **fields: Any) -> None:
        for journal in self._journals:
            journal.append({"event": event, **fields, "draws": self._draws})


def spent(entries: Iterable[dict[str, Any]]) -> Spent:
    """Adds a ledger up, or several: from its lines alone, not from what they say of ε.

    Args:
        entries: lines of one ledger or of several, in any order. Steps that stand there twice count once.

    Returns:
        ε is 0 where nothing was spent.
    """
    made: dict[tuple[str, float, float], list[tuple[int, int]]] = {}
    deltas, uncovered = [], []
    for entry in entries:
        if entry["event"] == "steps":
            key = (str(entry["draws"]), float(entry["noise_multiplier"]), float(entry["sampling_rate"]))
            made.setdefault(key, []).append((int(entry["from"]), int(entry["to"])))
            deltas.append(float(entry["delta"]))
        elif entry.get("cost") == NOT_COVERED:
            uncovered.append(UNPROTECTED if entry["event"] == "training" else str(entry["what"]))
    steps: dict[tuple[float, float], int] = {}
    for (_, noise, rate), spans in made.items():
        steps[noise, rate] = steps.get((noise, rate), 0) + _covered(spans)
    delta = min(deltas, default=0.0)
    parts = tuple((noise, rate, count) for (noise, rate), count in sorted(steps.items()))
    epsilon = accountant.composed(parts, delta, accountant.INTERVAL) if parts else 0.0
    return Spent(epsilon, delta, sum(steps.values()), list(dict.fromkeys(uncovered)))


def _covered(spans: list[tuple[int, int]]) -> int:
    """How many different numbers lie in some of the spans, whose ends count."""
    count, reached = 0, 0
    for first, last in sorted(spans):
        count += max(0, last - max(first - 1, reached))
        reached = max(reached, last)
    return count


def stated(mechanism: Mechanism, steps: int) -> dict[str, Any]:
    """The guarantee after some steps, as `run --json` prints it.

    Args:
        mechanism: what each step does.
        steps: how many were made.

    Returns:
        {epsilon, delta, noise_multiplier, clip, unit, units, sampling_rate, expected_batch, steps, accountant}; an infinite ε is None.
    """
    epsilon = mechanism.epsilon(steps)
    return {
        "epsilon": epsilon if math.isfinite(epsilon) else None,
        "delta": mechanism.delta,
        "noise_multiplier": mechanism.noise_multiplier,
        "clip": mechanism.clip,
        "unit": mechanism.unit,
        "units": mechanism.units,
        "sampling_rate": mechanism.sampling_rate,
        "expected_batch": mechanism.expected_batch,
        "steps": steps,
        "accountant": accountant.ACCOUNTANT,
    }
