"""lm-evaluation-harness drives a run through its exported folder: SST-2's development set, as a choice between two words.

    python -m venv harness && harness/bin/pip install torch transformers lm-eval    # a venv of its own
    python benchmarks/harness.py --harness harness/bin/lm_eval [--data ../shared/data] [--budget "4 min"]

A small transformer learns sentences with their tone as a last word, and is exported. The harness asks which of the two words is
likelier behind each sentence it has not seen; a file beside this one describes the task to it. Prints the harness's accuracy.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import tempfile
from pathlib import Path

from shuyuan import pipeline, recipe

WORDS = {"0": "bad", "1": "good"}
TASK = """
task: tone
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {file}
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{{{sentence}}}}\\nTone:"
doc_to_choice: [bad, good]
doc_to_target: label
metric_list:
  - metric: acc
"""


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened, delimiter="\t", quoting=csv.QUOTE_NONE))


def exported(data: Path, folder: Path, budget: str) -> Path:
    """A model folder for transformers."""
    with (folder / "tones.jsonl").open("w", encoding="utf-8") as file:
        for row in rows(data / "sst2_train.tsv"):
            text = f"{row['sentence'].strip()}\nTone: {WORDS[row['label']]}"
            file.write(json.dumps({"text": text}) + "\n")
    table = {
        "name": "tones",
        "data": {"source": str(folder / "tones.jsonl"), "validation": 0.02, "duplicates": "exact"},
        "tokenizer": {"kind": "bpe", "vocab_size": 4096},
        "model": {"size": "tiny", "context": 128},
        "train": {"budget": budget},
    }
    pipeline.run(recipe.from_table(table), out=folder / "run")
    with pipeline.look(folder / "run") as job:
        return pipeline.export(job, folder / "exported", "huggingface")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--harness", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/sentiment")
    parser.add_argument("--budget", default="4 min")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = exported(options.data, folder, options.budget)
        with (folder / "asked.jsonl").open("w", encoding="utf-8") as file:
            for row in rows(options.data / "sst2_test.tsv"):
                file.write(
                    json.dumps({"sentence": row["sentence"].strip(), "label": int(row["label"])}) + "\n"
                )
        (folder / "tone.yaml").write_text(TASK.format(file=folder / "asked.jsonl"))
        command = [
            str(options.harness), "--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--tasks", "tone",
            "--include_path", str(folder), "--device", "cpu", "--batch_size", "32", "--output_path", str(folder / "out"),
        ]  # fmt: skip
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
        subprocess.run(command, check=True, env=os.environ | offline)
        (found,) = (folder / "out").rglob("results_*.json")
        print(
            json.dumps({"task": "SST-2, development set", **json.loads(found.read_text())["results"]["tone"]})
        )


if __name__ == "__main__":
    main()
