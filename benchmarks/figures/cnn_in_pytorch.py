"""How many images are told right."""

from __future__ import annotations

import json

from .page import Page, median
from .running import Finished


def accuracy(run: Finished) -> float:
    """Percent of the held-out images that are told right."""
    return 100 * float(run.result["scores"]["classification"]["original"]["validation.accuracy"])


def spread_of_batches(run: Finished) -> float:
    """Of the losses of single batches in the second of 20 epochs."""
    events = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    losses = [float(event["loss"]) for event in events if event["event"] == "train.step"]
    epoch = max(1, len(losses) // 20)
    second = losses[epoch : 2 * epoch] or losses
    return max(second) - min(second)


PAGE = Page(
    {
        "textbook-accuracy": median(accuracy),
        "textbook-parameters": median(lambda run: run.result["parameters"]),
        "small-accuracy": median(accuracy),
        "augmented-accuracy": median(accuracy),
        "one-batch-spread": median(spread_of_batches),
        "private-accuracy": median(accuracy),
        "private-textbook": median(accuracy),
    },
)
