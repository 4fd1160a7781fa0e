"""Figures of the handbook's page on efficiency: what padding would cost, and what was there twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from shuyuan import data, recipe, vault
from shuyuan.data.stored import StoredRecords
from shuyuan.runs import Run


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
