"""What sealing costs training: the same run from sealed shards and from open ones, in turns, with the ratio of each pair, and how
long the sealed one waited for batches.

    python benchmarks/sealed_training.py [--size tiny] [--steps 60] [--pairs 7]

Data, seed and steps are the same, so the models come out the same; batches are read ahead by the training loop as always.
The bars are a median ratio below 1.02, and at most 2 % of the time waited. Small splits are held in memory once they are read; `--streamed` turns that off, so
that every batch is decrypted anew, as it is for splits that are too large to hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import threading
from pathlib import Path

from shuyuan import data, hardware
from shuyuan.data import batches
from shuyuan.progress import Progress
from shuyuan.recipe import Recipe, from_table
from shuyuan.runs import Run
from shuyuan.train import resolve, train
from shuyuan.vault import open_store

KEY = "SHUYUAN_BENCHMARK_KEY"


def recipe_for(source: Path, options: argparse.Namespace) -> Recipe:
    return from_table(
        {
            "data": {"source": str(source), "record": "line", "duplicates": "keep"},
            "model": {"size": options.size},
            "train": {"budget": f"{options.steps} steps", "evaluations": 0},
        }
    )


def train_once(recipe: Recipe, folder: Path, key: str | None) -> tuple[float, float, bytes]:
    """Seconds in which a fresh run trains, the share of them in which it waits for batches, and its weights; preparation is not
    counted."""
    folder.mkdir()
    with open_store(Run(folder), key, create=True) as store:
        manifest = data.prepare(recipe, store, Progress())
        resolved = resolve(recipe, manifest, hardware.detect(), Progress())
        result = train(resolved, store, Progress(), threading.Event())
        return result.seconds, result.waited_seconds / result.seconds, store.read("model/model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Training from sealed shards beside training from open ones."
    )
    parser.add_argument("--size", default="tiny", choices=["tiny", "small", "medium", "large"])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--streamed", action="store_true", help="read every batch from the shards")
    options = parser.parse_args()
    if options.streamed:
        batches.CACHED_BYTES = 0
    os.environ[KEY] = "a passphrase for a benchmark"

    ratios, waits = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        choose = random.Random(0)
        words = ["".join(choose.choices("abcdefghij", k=choose.randint(2, 9))) for _ in range(2000)]
        text = "\n".join(" ".join(choose.choices(words, k=12)) for _ in range(20_000))
        (root / "notes.txt").write_text(text, encoding="utf-8")
        recipe = recipe_for(root / "notes.txt", options)
        train_once(recipe, root / "warm", None)
        print(f"{'pair':>4}{'open s':>10}{'sealed s':>10}{'ratio':>8}{'waited':>8}")
        for pair in range(options.pairs):
            kinds = [("open", None), ("sealed", f"env:{KEY}")]
            found = {}
            for name, key in kinds if pair % 2 else reversed(kinds):  # neither is always the first
                found[name] = train_once(recipe, root / f"{name}-{pair}", key)
            (open_seconds, _, open_weights), (sealed_seconds, waited, sealed_weights) = (
                found["open"],
                found["sealed"],
            )
            assert open_weights == sealed_weights
            ratios.append(sealed_seconds / open_seconds)
            waits.append(waited)
            print(
                f"{pair:4}{open_seconds:10.2f}{sealed_seconds:10.2f}{ratios[-1]:8.3f}{waited:8.2%}",
                flush=True,
            )
    median = statistics.median(ratios)
    most = max(waits)
    print(
        f"median ratio {median:.3f} (bar: below 1.02); sealed runs waited {most:.2%} of their time (bar: 2 %)"
    )
    print(
        json.dumps(
            {
                "sealed_over_open": round(median, 4),
                "ratios": [round(ratio, 4) for ratio in ratios],
                "waited": round(most, 5),
            }
        )
    )


if __name__ == "__main__":
    main()
