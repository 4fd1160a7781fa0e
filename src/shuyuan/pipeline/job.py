"""A run that is open for work, and what all of its stages do to it: read its manifest, write its log, measure its peak."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from .. import data, hardware, vault
from ..progress import Progress, Stop
from ..recipe import Recipe
from ..runs import Run, not_prepared
from ..train.memory import peak_memory
from ..train.metrics import METRICS_FILE

PLAN_FILE = "plan.json"


@dataclass
class Job:
    """A run that is open for work: its folder, its files, its recipe as resolved so far.

    Attributes:
        run: its folder.
        store: its files.
        recipe: as resolved so far.
        progress: hears about stages.
        stop: set by whoever wants the work to end early.
    """

    run: Run
    store: vault.Store
    recipe: Recipe
    progress: Progress = field(default_factory=Progress)
    stop: Stop = field(default_factory=Stop)


def manifest_of(job: Job) -> data.Manifest:
    """What was prepared.

    Args:
        job: a run, opened.

    Raises:
        RunError: nothing was yet.
    """
    manifest = data.load_manifest(job.store)
    if manifest is None:
        raise not_prepared(job.run.path)
    return manifest


def log(job: Job, event: dict[str, Any]) -> None:
    """Adds an event to the run's log, with the time."""
    job.store.journal(METRICS_FILE).append(event | {"time": round(time.time(), 3)})


def measured_peak(job: Job) -> None:
    """Has the measured peak, which stands beside the plan's, cover what came after training too."""
    if job.store.exists(PLAN_FILE) and "measured" in (plan := job.store.read_json(PLAN_FILE)):
        peak = peak_memory(hardware.detect().device)
        plan["measured"]["peak_bytes"] = max(plan["measured"]["peak_bytes"], peak)
        job.store.write_json(PLAN_FILE, plan)
