"""The plan beside what then happens: peak memory, time and storage of real runs, each in a process of its own.

    python benchmarks/plan.py [--steps 30] [--cases 12]

Each case is a whole run through `shuyuan.run` (preparation, training, evaluation, report) on source text of the Python
standard library. Time is compared for a budget in steps, which the plan predicts by formula. Run it alone: another busy
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
}


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
    if "vault" in merged:
        merged["vault"] = {"key": f"file:{folder / 'key'}"}
    return merged


def one(case: str, steps: int) -> None:
    """Runs one case in this process and prints its plan as JSON."""
    import shuyuan
    from shuyuan.vault.keys import write_key_file

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = recipe(CASES[case], steps, folder)
        if "vault" in table:
            write_key_file(folder / "key")
        planned = shuyuan.plan(table)
        shuyuan.run(table, out=folder / "run")
        print(json.dumps(planned | {"measured": measured(folder / "run", table)}))


def measured(run: Path, table: dict[str, Any]) -> dict[str, float]:
    """What the run itself wrote down beside its plan."""
    from shuyuan import pipeline

    with pipeline.look(run, table.get("vault", {}).get("key")) as job:
        found: dict[str, float] = job.store.read_json(pipeline.PLAN_FILE)["measured"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--cases", type=int, default=len(CASES))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(asked.one, asked.steps)
        return
    rows = []
    print(
        f"{'case':20} {'peak MB':>9} {'planned':>9} {'error':>7}   {'seconds':>8} {'planned':>8} {'error':>7}"
    )
    for case in list(CASES)[: asked.cases]:
        command = [sys.executable, __file__, "--one", case, "--steps", str(asked.steps)]
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
