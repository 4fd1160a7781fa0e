"""Half precision, schedules, what padding would cost, and what was there twice."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np

from shuyuan import data, recipe, vault
from shuyuan.data.stored import StoredRecords
from shuyuan.runs import Run

from .page import Page, Runs, median, peak_gigabytes, validation_loss


def bf16_ratio(_: Runs, all_runs: dict[str, Runs]) -> float:
    """The median over pairs that ran one after the other, so that a slow minute hits both."""
    pairs = zip(all_runs["bf16-speed"], all_runs["fp32-speed"], strict=True)
    return statistics.median(bf16.tokens_per_second / fp32.tokens_per_second for bf16, fp32 in pairs)


def spread(runs: Runs, all_runs: dict[str, Runs]) -> float:
    return abs(validation_loss(runs[0]) - validation_loss(all_runs["schedule-wsd"][0]))


def padding(folder: Path) -> float:
    """Percent of all places, with a row as wide as the context for each record and longer ones cut to several rows."""
    context = recipe.load(folder / "recipe.toml").model.context
    with vault.open_store(Run(folder), None, writable=False) as store:
        lengths = StoredRecords(store, data.load_manifest(store), "train").length_R
    rows = np.ceil(lengths / context).sum()
    return float(100 * (1 - lengths.sum() / (rows * context)))


def duplicates(folder: Path) -> float:
    """Percent of the records that were read."""
    manifest = json.loads((folder / "data" / "manifest.json").read_text())
    removed = sum(manifest["duplicates"].values())
    kept = sum(split["records"] for split in manifest["splits"].values())
    return 100 * removed / (removed + kept)


PAGE = Page(
    {
        "fp32-speed": median(lambda run: run.tokens_per_second),
        "fp32-memory": median(peak_gigabytes),
        "fp32-loss": median(validation_loss),
        "bf16-speed": median(lambda run: run.tokens_per_second),
        "bf16-memory": median(peak_gigabytes),
        "bf16-loss": median(validation_loss),
        "bf16-ratio": bf16_ratio,
        "schedule-constant": median(validation_loss),
        "schedule-linear": median(validation_loss),
        "schedule-cosine": median(validation_loss),
        "schedule-wsd": median(validation_loss),
        "schedule-spread": spread,
        "padding": median(lambda run: padding(run.folder)),
        "duplicates": median(lambda run: duplicates(run.folder)),
    },
    needs={"bf16-ratio": ["fp32-speed", "bf16-speed"], "schedule-spread": ["schedule-wsd"]},
    timed=["fp32-speed", "bf16-speed", "bf16-ratio"],
)
