"""Runs a command as its page shows it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from shuyuan.handbook import Question

SMALL = ["--set", "train.budget=3 steps", "--set", "train.batch_size=4"]
MADE_BY = {"families.toml": "families.py"}  # a recipe that needs what a script of the page makes first


class Finished:
    """One command that has run: its JSON, its run folder, how long it took."""

    def __init__(self, result: dict[str, Any], folder: Path, seconds: float) -> None:
        self.result = result
        self.folder = folder
        self.seconds = seconds

    @property
    def tokens_per_second(self) -> float:
        return float(self.result["tokens"] / self.result["seconds"])


def run_shown(question: Question, command: str, folder: Path, *, small: bool) -> Finished:
    """Runs a command as the page shows it, with --json, in a folder with the question's recipes and pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*question.folder.glob("*.toml"), *question.folder.glob("*.md")):
        (folder / file.name).write_bytes(file.read_bytes())
    program, *words = shlex.split(command.replace("\\\n", " "))
    ranks = words.index("shuyuan") + 1 if program == "torchrun" else 0  # before it stand torchrun's own words
    if program not in ("shuyuan", "torchrun"):
        raise SystemExit(f"{question.id}: the page shows a command that is not shuyuan: {command}")
    for script in [made_by for recipe, made_by in MADE_BY.items() if recipe in words]:
        if not (folder / script).exists():
            (folder / script).write_bytes((question.folder / script).read_bytes())
            subprocess.run([sys.executable, script], cwd=folder, check=True, stdout=sys.stderr)
    starter = ["torch.distributed.run", *words[:ranks]] if ranks else ["shuyuan"]
    words = words[ranks:]
    words += [
        "--json",
        *(SMALL if small and words[0] in ("train", "run", "audit", "compress") and "--out" in words else []),
    ]
    begun = time.perf_counter()
    apart = os.environ | {"SHUYUAN_HOME": str(folder)}  # what is spent here is not the reader's own account
    done = subprocess.run(
        [sys.executable, "-m", *starter, *words], cwd=folder, env=apart, stdout=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise SystemExit(f"{question.id}: `{command}` failed: {done.stdout.strip()}")
    out = words[words.index("--out") + 1] if "--out" in words else ""
    return Finished(json.loads(done.stdout.splitlines()[-1]), folder / out, seconds)
