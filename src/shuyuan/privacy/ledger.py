"""The ledger: every release that is computed from private records, what it costs, and what the guarantee leaves out.

Each entry stands before the thing that it accounts for, so that a kill can lose a release and never hide one. Steps that
are made again from a checkpoint draw the same units and the same noise, so they are the same release: entries with the
same `draws` are counted once, however often they stand there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..vault import Journal
from . import accountant
from .mechanism import Mechanism
from .stream import derive

LEDGER_FILE = "ledger.jsonl"
# What each leak accepted by name means.
ALLOWED = {
    "tokenizer": "Vocabulary or merges were learned from the records: a frequent or rare word of a unit may stand in it.",
    "labels": "The names of the labels were found in the records: one that a single unit has stands in the model.",
    "plateau": "The learning rate followed the validation loss of held-out units.",
}


@dataclass(frozen=True)
class Spent:
    """What a ledger adds up to.

    Attributes:
        epsilon: of all entries together; infinite if steps were made without noise.
        delta: the largest that an entry was stated for.
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
        journal: the run's ledger.jsonl.
        mechanism: what its steps do.
        secret: what they draw from; the ledger tells secrets apart, and nothing of them.
    """

    def __init__(self, journal: Journal, mechanism: Mechanism, secret: bytes) -> None:
        self._journal = journal
        self._mechanism = mechanism
        self._draws = derive(secret, "ledger").hex()[:32]

    def allow(self, names: Iterable[str]) -> None:
        """Notes the leaks that the recipe accepts, each once."""
        noted = {entry["what"] for entry in self._journal.entries() if entry["event"] == "allowed"}
        for name in names:
            if name not in noted:
                meaning = ALLOWED[name]
                self._journal.append(
                    {"event": "allowed", "what": name, "cost": "not covered", "meaning": meaning}
                )

    def steps(self, first: int, last: int) -> None:
        """Notes that steps `first` to `last` are about to be written down somewhere."""
        if last < first:
            return
        mechanism = self._mechanism
        self._journal.append(
            {
                "event": "steps",
                "mechanism": "Poisson sampling of units, joint clip, Gaussian noise"
                if mechanism.clipping == "joint"
                else "Poisson sampling of units, clip for each parameter, Gaussian noise",
                "neighbours": "add or remove one unit; the number of units is public",
                "unit": mechanism.unit,
                "units": mechanism.units,
                "sampling_rate": mechanism.sampling_rate,
                "noise_multiplier": mechanism.noise_multiplier,
                "clip": mechanism.clip,
                "delta": mechanism.delta,
                "from": first,
                "to": last,
                "draws": self._draws,
            }
        )

    def release(self, what: str) -> None:
        """Notes that something computed from the steps so far leaves the inside."""
        self._journal.append({"event": "release", "what": what})


def spent(entries: Iterable[dict[str, Any]]) -> Spent:
    """Adds a ledger up, or several: from its lines alone, not from what they say of ε."""
    made: dict[tuple[str, float, float], set[int]] = {}
    delta, uncovered = 0.0, []
    for entry in entries:
        if entry["event"] == "steps":
            key = (str(entry["draws"]), float(entry["noise_multiplier"]), float(entry["sampling_rate"]))
            made.setdefault(key, set()).update(range(int(entry["from"]), int(entry["to"]) + 1))
            delta = max(delta, float(entry["delta"]))
        elif entry["event"] == "allowed" and entry["what"] not in uncovered:
            uncovered.append(str(entry["what"]))
    parts = tuple((noise, rate, len(steps)) for (_, noise, rate), steps in sorted(made.items()))
    total = accountant.composed(parts, delta) if parts else 0.0
    return Spent(total, delta, sum(steps for _, _, steps in parts), uncovered)


def stated(mechanism: Mechanism, steps: int) -> dict[str, Any]:
    """The guarantee after some steps, as `run --json` prints it."""
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
