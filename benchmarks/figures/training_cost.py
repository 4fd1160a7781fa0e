"""What a training costs, beside what was planned."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

from shuyuan import data, vault
from shuyuan.runs import Run

from .page import Page, checkpoint_bytes, median
from .running import Finished

YEAR_SECONDS = 31_557_600
FEED_CONTEXT, FEED_BATCH = 2048, 16


def measured_over_planned(key: str) -> Callable[[Finished], float]:
    def pick(run: Finished) -> float:
        plan = json.loads((run.folder / "plan.json").read_text())
        return float(plan["measured"][key] / plan[key]["expected"])

    return pick


def checkpoint_bytes_per_parameter(run: Finished) -> float:
    return float(checkpoint_bytes(run) / run.result["parameters"])


def prepared_megabytes_per_second(run: Finished) -> float:
    with vault.open_store(Run(run.folder), None, writable=False) as store:
        manifest = data.load_manifest(store)
    if manifest is None:
        raise SystemExit(f"{run.folder}: no manifest")
    return manifest.text_bytes / manifest.seconds / 1e6


def fed_tokens_per_second(run: Finished) -> float:
    """Shuffled batches of 2,048-token windows from the shards of a prepared run, in this one thread."""
    with vault.open_store(Run(run.folder), None, writable=False) as store:
        manifest = data.load_manifest(store)
        windows = data.Windows(store, manifest, "train", FEED_CONTEXT)
        windows.batch(0, FEED_BATCH, 1)
        rates = []
        for _ in range(5):
            begun = time.perf_counter()
            for step in range(50):
                windows.batch(step, FEED_BATCH, 1)
            rates.append(50 * FEED_BATCH * FEED_CONTEXT / (time.perf_counter() - begun))
    return statistics.median(rates)


PAGE = Page(
    {
        "gpt3-parameters": median(lambda run: run.result["parameters"]),
        "gpt3-flops": median(lambda run: run.result["train_flops"]),
        "gpt3-years": median(lambda run: run.result["seconds"]["expected"] / YEAR_SECONDS),
        "time-ratio": median(measured_over_planned("seconds")),
        "memory-ratio": median(measured_over_planned("peak_bytes")),
        "checkpoint-bytes": median(checkpoint_bytes_per_parameter),
        "prepare-rate": median(prepared_megabytes_per_second),
        "feed-rate": median(fed_tokens_per_second),
    },
    stands_on={"feed-rate": "prepare-rate"},
    timed=["time-ratio", "prepare-rate"],
)
