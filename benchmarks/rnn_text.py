"""What the family rnn learns: characters of tinyshakespeare in five minutes, and the tone of hotel reviews in Chinese.

    python benchmarks/rnn_text.py [--data ../shared/data] [characters reviews]

`characters`: an LSTM at every position, its loss in nats a character on the whole validation split. `reviews`: a bidirectional LSTM on
ChnSentiCorp's hotel reviews, its accuracy on a test split that is looked at once, beside TF-IDF of one to three characters with
logistic regression on the same split. Each prints a line of JSON; seconds are those of training.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from _labelled import hotel
from shuyuan import pipeline, recipe

CHARACTERS: dict[str, Any] = {
    "name": "characters",
    "tokenizer": {"kind": "char"},
    "model": {"family": "rnn", "width": 512, "layers": 1, "context": 64, "dropout": 0.2},
    "train": {"budget": "270 s", "evaluations": 3},
}
REVIEWS: dict[str, Any] = {
    "name": "reviews",
    "task": "sentiment",
    "tokenizer": {"kind": "char"},
    "model": {
        "family": "rnn",
        "width": 64,
        "layers": 1,
        "bidirectional": True,
        "dropout": 0.3,
        "context": 256,
    },
    "train": {"budget": "6 epochs", "batch_size": 64},
}


def characters(data: Path, folder: Path) -> dict[str, Any]:
    """The character model."""
    table = CHARACTERS | {"data": {"source": str(data / "text/tinyshakespeare.txt")}}
    summary = pipeline.run(recipe.from_table(table), out=folder / "characters")
    scores = summary["scores"]["generation"]["original"]
    return _facts(summary) | {
        "validation_loss": round(scores["validation.loss"], 4),
        "training_loss": round(summary["loss"]["train"], 4),
        "bigram_loss": round(scores["validation.bigram_loss"], 4),
    }


def reviews(data: Path, folder: Path) -> dict[str, Any]:
    """The classifier of reviews, and its baseline."""
    records = hotel(data)
    table = REVIEWS | {"data": {**records.written(folder), "duplicates": "exact"}}
    summary = pipeline.run(recipe.from_table(table), out=folder / "reviews")
    scores = summary["scores"]["sentiment"]["original"]
    right, _ = records.tf_idf()
    return _facts(summary) | {
        "test_accuracy": round(scores["test.accuracy"], 4),
        "tf_idf_accuracy": round(right, 4),
        "majority_accuracy": round(scores["test.majority_accuracy"], 4),
    }


def _facts(summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "case": Path(summary["run"]).name,
        "seconds": round(summary["seconds"], 1),
        "steps": summary["steps"],
        "parameters": summary["parameters"],
        "peak_bytes": summary["peak_bytes"],
    }


CASES = {"characters": characters, "reviews": reviews}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=list(CASES), help=", ".join(CASES))
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.cases:
            print(json.dumps(CASES[name](options.data.resolve(), Path(folder))), flush=True)


if __name__ == "__main__":
    main()
