"""Small runs for tests: a text with some structure, a recipe that trains in seconds, and the command in-process."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from shuyuan.cli import app

WORDS = [
    "the",
    "red",
    "fox",
    "saw",
    "a",
    "small",
    "bird",
    "near",
    "old",
    "river",
    "and",
    "then",
    "slowly",
    "went",
    "home",
    "because",
    "night",
    "came",
]


def text_of(lines: int, seed: int = 0) -> str:
    """Lines of words with a pattern to learn; no two lines alike."""
    choose = random.Random(seed)
    return "".join(f"line {number}: {' '.join(choose.choices(WORDS, k=9))}.\n" for number in range(lines))


def write_recipe(folder: Path, *, sealed: bool = False, steps: int = 12, **tables: Any) -> Path:
    """Writes notes.txt and recipe.toml for a tiny run; `tables` adds lines to a table of the recipe."""
    (folder / "notes.txt").write_text(text_of(400), encoding="utf-8")
    parts = {
        "data": 'source = "notes.txt"\nrecord = "line"\nvalidation = 0.2',
        "model": "layers = 2\nwidth = 32\nheads = 2\nhidden = 64\ncontext = 32",
        "train": f'budget = "{steps} steps"\nbatch_size = 4\nprecision = "fp32"\ncheckpoint_every = "5 steps"\nevaluations = 2',
    }
    if sealed:
        parts["vault"] = 'key = "env:SHUYUAN_TEST_KEY"'
    for table, lines in tables.items():
        parts[table] = parts.get(table, "") + "\n" + lines
    recipe = folder / "recipe.toml"
    body = "\n\n".join(f"[{table}]\n{lines}" for table, lines in parts.items())
    recipe.write_text(f'name = "tiny"\n\n{body}\n', encoding="utf-8")
    return recipe


@dataclass
class Outcome:
    """What a command gave back."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The last line of stdout, which `--json` promises to be one object."""
        value: dict[str, Any] = json.loads(self.stdout.strip().splitlines()[-1])
        return value


def shuyuan(*arguments: str | Path, stdin: str | None = None) -> Outcome:
    """Runs the command in this process."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    return Outcome(done.exit_code, done.stdout, done.stderr)
