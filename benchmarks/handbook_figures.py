"""Measures the figures of the handbook: runs the very commands that its pages show and writes figures.json.

    python benchmarks/handbook_figures.py                      # all figures, as `make docs-figures` does; hours on 2 cores
    python benchmarks/handbook_figures.py --question training-cost
    python benchmarks/handbook_figures.py --only feed-rate     # figures by name
    python benchmarks/handbook_figures.py --small              # a few steps, to try the script; writes nothing

Afterwards `make docs` writes them into the pages. The commands run in the order of question.toml in one folder that holds the
question's recipes and pages, as a reader would do it, so that a later one may use the run of an earlier one. Those of one
comparison run in turns, `--repeats` times, each turn in a folder of its own, and the median counts. Quick ones (`rerun_within`)
are also measured by tests/handbook/test_figures_again.py.

What is read of what a command did, and which runs it needs, stands in figures/: a file a question.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from figures.page import Page, Runs
from figures.running import run_shown
from shuyuan import hardware
from shuyuan.handbook import Question, load_bank

DATA = Path(__file__).parents[1] / "../shared/data"
BANK = load_bank()
PAGES: dict[str, Page] = {
    name: import_module(f"figures.{name.replace('-', '_')}").PAGE
    for name, question in BANK.items()
    if question.facts.figures
}


def measure(
    question: Question, names: list[str], folder: Path, *, repeats: int, small: bool
) -> dict[str, float]:
    """Runs what the figures need, each command once a round, and returns the values."""
    page = PAGES[question.id]
    wanted = list(dict.fromkeys(need for name in names for need in [*page.needs.get(name, []), name]))
    commands = {name: question.facts.figures[page.stands_on.get(name, name)].command for name in wanted}
    timed = {commands[name] for name in wanted if name in page.timed}
    done: dict[str, Runs] = {command: [] for command in dict.fromkeys(commands.values())}
    for turn in range(repeats):
        for command in done:
            if turn == 0 or command in timed:
                print(f"{question.id}: {' '.join(command.replace(chr(92), ' ').split())}", file=sys.stderr)
                done[command].append(run_shown(question, command, folder / str(turn), small=small))
    runs = {name: done[commands[name]] for name in wanted}
    return {name: page.measures[name](runs[name], runs) for name in names}


def write_figures(question: Question, values: dict[str, float]) -> None:
    """Adds the values to the question's figures.json, each with its command, hardware and date."""
    file = question.folder / "figures.json"
    table = json.loads(file.read_text()) if file.exists() else {}
    machine = hardware.detect()
    facts = {
        "hardware": f"{machine.name}, {machine.cores} core{'s' * (machine.cores > 1)}, {machine.memory_bytes / 1e9:.0f} GB",
        "date": time.strftime("%Y-%m-%d"),
        "versions": {
            "shuyuan": version("shuyuan"),
            "torch": version("torch"),
            "Python": sys.version.split()[0],
        },
    }
    for name, value in values.items():
        figure = question.facts.figures[name]
        table[name] = {"value": value, "unit": figure.unit.en, "command": figure.command} | facts
    ordered = {name: table[name] for name in question.facts.figures if name in table}
    file.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--question", choices=list(PAGES))
    parser.add_argument("--only", nargs="+", default=[], metavar="FIGURE")
    parser.add_argument("--data", type=Path, default=DATA, help="public data, for recipes that read ../data")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    found = {}
    for question_id, page in PAGES.items():
        names = [name for name in page.measures if not asked.only or name in asked.only]
        if not names or asked.question not in (None, question_id):
            continue
        question = BANK[question_id]
        with tempfile.TemporaryDirectory(prefix="shuyuan-figures-") as folder:
            (Path(folder) / "data").symlink_to(asked.data.resolve())  # which some recipes read
            repeats = 1 if asked.small else asked.repeats
            values = measure(question, names, Path(folder), repeats=repeats, small=asked.small)
        if not asked.small:
            write_figures(question, values)
        found[question_id] = values
        for name, value in values.items():
            print(f"{question_id:<22} {name:<20} {value:>14.6g} {question.facts.figures[name].unit.en}")
    print(json.dumps({"figures": found, "written": not asked.small}))


if __name__ == "__main__":
    main()
