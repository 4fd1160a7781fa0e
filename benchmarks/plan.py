"""The plan beside what then happens: peak memory, time and storage of real runs, each in a process of its own.

    python benchmarks/plan.py [--steps 30] [--cases 12]

Each case is a whole run through `shuyuan.run` (preparation, training, evaluation, report), on source text of the Python
standard library or of a built-in recipe. Memory is that of the whole run, at its highest point. Time is compared for a budget in steps, which the plan predicts by formula. Run it alone: another busy
process makes the time, and nothing else, worthless.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

BPE = {"kind": "bpe", "vocab_size": 4096}
SIZED = {"layers": None, "width": None}
CASES: dict[str, dict[str, Any]] = {  # each changes one thing of the first
    "4x256, bf16": {},
    "auto batch": {"train": {"batch_size": "auto"}},
    "fp32": {"train": {"precision": "fp32"}},
    "adamw": {"train": {"optimizer": "adamw"}},
    "sgd": {"train": {"optimizer": "sgd"}},
    "bpe 4096": {"tokenizer": BPE},
    "bpe 4096, untied": {"tokenizer": BPE, "model": {"tied": False}},
    "batch 32": {"train": {"batch_size": 32}},
    "accumulated 4 x 4": {"train": {"micro_batch": 4}},
    "context 1024": {"model": {"context": 1024}, "train": {"batch_size": 4}},
    "grouped heads": {"model": {"heads": 4, "kv_heads": 1}},
    "8x512": {"model": {"layers": 8, "width": 512}, "train": {"batch_size": 8}},
    "tiny 2x64": {"model": {"layers": 2, "width": 64}},
    "sealed": {"vault": {}},
    "char": {"tokenizer": {"kind": "char"}},
    "tiny": {"model": SIZED | {"size": "tiny"}},
    "small": {"model": SIZED | {"size": "small"}},
}
BUILT_IN = ("demo", "demo-private")  # the second learns on from the first one's model


def recipe(case: dict[str, Any], steps: int, folder: Path) -> dict[str, Any]:
    """The recipe of a case."""
    library = Path(sysconfig.get_path("stdlib"))
    base: dict[str, Any] = {
        "data": {
            "source": [str(library / name) for name in ("asyncio", "email", "json", "unittest")],
            "record": "paragraph",
        },
        "model": {"layers": 4, "width": 256, "context": 256},
        "train": {"budget": f"{steps} steps", "batch_size": 16},
    }
    merged = base | {name: base.get(name, {}) | table for name, table in case.items()}
    merged["model"] = {key: value for key, value in merged["model"].items() if value is not None}
    if "vault" in merged:
        merged["vault"] = {"key": f"file:{folder / 'key'}"}
    return merged


def one(case: str, steps: int, folder: Path) -> None:
    """Runs one case in this process and prints its plan as JSON."""
    import shuyuan
    from shuyuan.vault.keys import write_key_file

    key = folder / "key"
    if not key.exists():
        write_key_file(key)
    sealed = case in BUILT_IN or "vault" in CASES[case]
    if case in BUILT_IN:
        changes = [f'vault.key="file:{key}"', f'train.budget="{steps} steps"']
        changes += [f'model.from="{folder / BUILT_IN[0]}"'] * (case == "demo-private")
        shuyuan.run(case, out=folder / case, changes=changes)
    else:
        shuyuan.run(recipe(CASES[case], steps, folder), out=folder / case)
    print(json.dumps(plan_of(folder / case, f"file:{key}" if sealed else None)))


def plan_of(run: Path, key: str | None) -> dict[str, Any]:
    """What the run foresaw, and what it measured beside it."""
    from shuyuan import pipeline

    with pipeline.look(run, key) as job:
        found: dict[str, Any] = job.store.read_json(pipeline.PLAN_FILE)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--cases", type=int, default=len(CASES) + len(BUILT_IN))
    parser.add_argument("--one", nargs=2, metavar=("CASE", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(asked.one[0], asked.steps, Path(asked.one[1]))
        return
    rows = []
    print(
        f"{'case':20} {'peak MB':>9} {'planned':>9} {'error':>7}   {'seconds':>8} {'planned':>8} {'error':>7}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for case in [*BUILT_IN, *CASES][: asked.cases]:
            command = [sys.executable, __file__, "--one", case, folder, "--steps", str(asked.steps)]
            out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            rows.append(row(case, json.loads(out.splitlines()[-1])))
    print(json.dumps(summary(rows)))


def row(case: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Compares and prints one case."""
    found: dict[str, Any] = {"case": case}
    text = f"{case:20}"
    for name, unit in (("peak_bytes", 1e6), ("seconds", 1.0)):
        real, guess = plan["measured"][name], plan[name]
        found[name] = {"measured": real, **guess}
        found[name]["error"] = guess["expected"] / real - 1
        found[name]["inside"] = guess["low"] <= real <= guess["high"]
        mark = " " if found[name]["inside"] else "!"
        text += f" {real / unit:9.1f} {guess['expected'] / unit:9.1f} {found[name]['error']:+7.1%}{mark}"
    print(text, flush=True)
    return found


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures that the bench is judged by."""
    figures: dict[str, Any] = {"cases": len(rows)}
    for name, within in (("peak_bytes", 0.10), ("seconds", 0.20)):
        errors = [abs(found[name]["error"]) for found in rows]
        figures[name] = {
            "median_error": round(statistics.median(errors), 4),
            f"within_{within:.0%}": sum(error <= within for error in errors),
            "inside": sum(found[name]["inside"] for found in rows),
        }
    return figures | {"rows": rows}


if __name__ == "__main__":
    main()
