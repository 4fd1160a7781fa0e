"""What a file of figures says of its page, and what several of them read from a finished run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from .running import Finished

Runs = list[Finished]
Measure = Callable[[Runs, dict[str, Runs]], float]


class Page(NamedTuple):
    """The figures of one question.

    Args:
        measures: by a figure's name: from the runs of its command, and those of what it needs, to its value.
        needs: figures whose runs another one needs: measured together with it, before it.
        stands_on: for what is measured in Python: the figure whose command is run for it.
        timed: figures that differ from run to run: their commands run in turns.
    """

    measures: Mapping[str, Measure]
    needs: Mapping[str, Sequence[str]] = {}
    stands_on: Mapping[str, str] = {}
    timed: Sequence[str] = ()


def median(pick: Callable[[Finished], float]) -> Measure:
    return lambda runs, _: statistics.median(pick(run) for run in runs)


def validation_loss(run: Finished) -> float:
    return float(run.result["loss"]["validation"])


def validation_losses(run: Finished) -> list[float]:
    """Of the whole run, in order."""
    events = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    return [float(event["loss"]) for event in events if event["event"] == "train.validation"]


def peak_gigabytes(run: Finished) -> float:
    return float(run.result["peak_bytes"]) / 1e9


def checkpoint_bytes(run: Finished) -> float:
    newest = max((run.folder / "checkpoints").iterdir(), key=lambda folder: folder.name)
    return float(sum(file.stat().st_size for file in newest.rglob("*") if file.is_file()))


def percent(hits: Iterable[bool]) -> float:
    return 100 * statistics.mean(map(float, hits))
