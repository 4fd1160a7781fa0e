"""Peak memory as foreseen by Shuyuan, by accelerate's estimator and by DeepSpeed's, beside what runs on this machine really take.

    pip download --no-deps --no-binary :all: deepspeed && tar xzf deepspeed-*.tar.gz
    python benchmarks/estimators.py --deepspeed deepspeed-0.19.8 [--steps 6] [--cases 6]

Each case is a whole run in a process of its own, whose peak resident memory is the truth. accelerate is asked in its own words:
"Training using Adam" of its table, for float32 and for mixed precision. DeepSpeed needs no GPU for its formulas, but to be
imported; its two functions are taken from the file that it installs, and run as they stand, for one device without offload.
Both estimate the states of the model alone, and say so; what is compared is what a user reads off them.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

CASES: dict[str, dict[str, Any]] = {  # each changes something of the first
    "4x256, fp32": {},
    "4x256, bf16": {"train": {"precision": "bf16"}},
    "8x512": {"model": {"layers": 8, "width": 512}, "train": {"batch_size": 8}},
    "8x512, one at a time": {
        "model": {"layers": 8, "width": 512},
        "train": {"batch_size": 8, "micro_batch": 1},
    },
    "context 1024": {"model": {"context": 1024}, "train": {"batch_size": 4}},
    "12x768": {"model": {"layers": 12, "width": 768}, "train": {"batch_size": 4}},
}
ZERO = {2: "stage_1_and_2.py", 3: "stage3.py"}


def recipe(case: dict[str, Any], steps: int) -> dict[str, Any]:
    """The recipe of a case."""
    library = Path(sysconfig.get_path("stdlib"))
    base: dict[str, Any] = {
        "data": {"source": [str(library / name) for name in ("asyncio", "json")], "record": "paragraph"},
        "model": {"layers": 4, "width": 256, "context": 256},
        "train": {
            "budget": f"{steps} steps",
            "batch_size": 16,
            "optimizer": "adamw",
            "precision": "fp32",
            "evaluations": 1,
        },
    }
    return base | {name: base[name] | table for name, table in case.items()}


def one(case: str, steps: int, folder: Path) -> None:
    """Runs one case in this process and prints its plan, with what was measured, as JSON."""
    import shuyuan
    from shuyuan import pipeline

    shuyuan.run(recipe(CASES[case], steps), out=folder / "run")
    with pipeline.look(folder / "run") as job:
        print(json.dumps(job.store.read_json(pipeline.PLAN_FILE)))


def by_accelerate(parameters: int, precision: str) -> float:
    """The column "Training using Adam": the largest of its parts."""
    from accelerate.commands.estimate import estimate_training_usage

    named = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    return float(max(estimate_training_usage(4 * parameters, named).values()))


def formula(folder: Path, stage: int) -> Callable[..., tuple[int, ...]]:
    """DeepSpeed's own function for a stage of ZeRO, from its installed file and without the rest of it."""
    tree = ast.parse((folder / "deepspeed/runtime/zero" / ZERO[stage]).read_text(encoding="utf-8"))
    name = f"estimate_zero{stage}_model_states_mem_needs"
    found = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    space: dict[str, Any] = {}
    exec(compile(ast.Module([found], []), name, "exec"), space)
    function: Callable[..., tuple[int, ...]] = space[name]
    return function


def by_deepspeed(folder: Path, plan: dict[str, Any], largest: int) -> tuple[float, float]:
    """What it says of one device's memory without offload, ZeRO 2 and ZeRO 3."""
    second = formula(folder, 2)(plan["parameters"], cpu_offload=False)[1]
    third = formula(folder, 3)(plan["parameters"], largest, cpu_offload=False, cpu_offload_params=False)[1]
    return float(second), float(third)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deepspeed", type=Path, required=True, help="the folder of its source distribution")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--cases", type=int, default=len(CASES))
    parser.add_argument("--one", nargs=2, metavar=("CASE", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(asked.one[0], asked.steps, Path(asked.one[1]))
        return
    names = ("shuyuan", "accelerate", "zero 2", "zero 3")
    errors: dict[str, list[float]] = {name: [] for name in names}
    print(f"{'case':22} {'peak MB':>8}" + "".join(f"{name:>18}" for name in names))
    for case in list(CASES)[: asked.cases]:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                __file__,
                "--deepspeed",
                str(asked.deepspeed),
                "--one",
                case,
                folder,
                "--steps",
                str(asked.steps),
            ]
            out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        plan, table = json.loads(out.splitlines()[-1]), recipe(CASES[case], asked.steps)
        largest = table["model"]["width"] * max(257, 8 * table["model"]["width"] // 3)
        told = (
            plan["peak_bytes"]["expected"],
            by_accelerate(plan["parameters"], table["train"]["precision"]),
            *by_deepspeed(asked.deepspeed, plan, largest),
        )
        real = plan["measured"]["peak_bytes"]
        text = f"{case:22} {real / 1e6:8.0f}"
        for name, guess in zip(names, told, strict=True):
            errors[name].append(guess / real - 1)
            text += f"{guess / 1e6:10.0f} {guess / real - 1:+7.0%}"
        print(text, flush=True)
    median = {name: round(statistics.median(map(abs, found)), 3) for name, found in errors.items() if found}
    print(json.dumps({"cases": asked.cases, "median_error": median, "errors": errors}))


if __name__ == "__main__":
    main()
