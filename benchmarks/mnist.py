"""The recipes for MNIST and for the built-in digits, from preparation to scores: accuracy, ε and seconds, a line of JSON each.

    python benchmarks/mnist.py [--data ../shared/data/vision] [textbook small private-3 private-8 digits]

`--data` holds MNIST's four files of images and labels. Accuracy is that of its test split of 10,000, by which the settings of
the private recipes were chosen (docs/lab-notes.md); seconds are those of training. Papernot et al. 2021 (arXiv 2007.14191) report
98.1 % at ε = 2.93 and δ = 1e-5.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from shuyuan import pipeline, recipe

# name: (recipe, changes)
CASES: dict[str, tuple[str, list[str]]] = {
    "textbook": ("mnist", ['model.size="textbook"', 'train.budget="5 epochs"', "train.augment=[]"]),
    "small": ("mnist", []),
    "private-3": ("mnist-private", []),
    "private-8": ("mnist-private", ["privacy.epsilon=8.0", 'train.budget="22 epochs"']),
    "digits": ("digits", []),
}


def outcome(name: str, data: Path, folder: Path) -> dict[str, Any]:
    """Runs one case, and what came of it."""
    file, changes = CASES[name]
    if file != "digits":
        images = {"source": "train", "test": "t10k"}
        changes = [f'data.{key}="{_images(data, part)}"' for key, part in images.items()] + changes
    asked = recipe.load(pipeline.RECIPES / f"{file}.toml", changes)
    summary = pipeline.run(asked, out=folder / name)
    scores = summary["scores"]["classification"]["original"]
    split = "test" if "test.accuracy" in scores else "validation"
    return {
        "case": name,
        "accuracy": round(scores[f"{split}.accuracy"], 4),
        "split": split,
        "epsilon": summary["privacy"] and round(summary["privacy"]["epsilon"], 3),
        "seconds": round(summary["seconds"], 1),
        "steps": summary["steps"],
        "parameters": summary["parameters"],
        "peak_bytes": summary["peak_bytes"],
    }


def _images(data: Path, part: str) -> Path:
    found = sorted(data.resolve().glob(f"*{part}*images*idx3*"))
    if not found:
        raise SystemExit(f"There are no images of MNIST ({part}) in {data}")
    return found[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=list(CASES), help=", ".join(CASES))
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/vision")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.cases:
            print(json.dumps(outcome(name, options.data, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
