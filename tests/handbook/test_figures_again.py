"""The quick figures of the pages are measured again, by the commands that stand there: a page cannot say what no longer is."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from shuyuan.handbook import QUESTIONS, Question, load_bank, load_question

BANK = load_bank()


def quick(question: Question) -> list[str]:
    """Its figures that are measured again."""
    return [name for name, figure in question.facts.figures.items() if figure.rerun_within]


def reads_data(question: Question) -> bool:
    """Whether a command of these figures, or its recipe, reads the public data sets."""
    commands = [question.facts.figures[name].command for name in quick(question)]
    recipes = {found for command in commands for found in re.findall(r"[\w-]+\.toml", command)}
    texts = [*commands, *((question.folder / recipe).read_text(encoding="utf-8") for recipe in recipes)]
    return any("../data" in text for text in texts)


def differences(script: ModuleType, question: Question, names: list[str], folder: Path) -> list[str]:
    """What the commands find now and the page does not say, as sentences."""
    found = script.measure(question, names, folder, repeats=1, small=False)
    told = [
        (name, question.measured[name].value, question.facts.figures[name].rerun_within) for name in names
    ]
    return [
        f"{question.id}: {name} is {committed:.6g} on the page and {found[name]:.6g} now (make docs-figures measures it)"
        for name, committed, within in told
        if found[name] != pytest.approx(committed, rel=within, abs=0)
    ]


@pytest.mark.parametrize("name", [name for name, question in BANK.items() if quick(question)])
def test_a_quick_figure_is_still_what_the_page_says(
    script: ModuleType, tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    if reads_data(BANK[name]):
        (tmp_path / "data").symlink_to(request.getfixturevalue("shared_data"))
    assert not differences(script, BANK[name], quick(BANK[name]), tmp_path)


def test_a_figure_that_is_off_is_named(script: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "kv-cache-size"
    shutil.copytree(QUESTIONS / "kv-cache-size", folder)
    table = json.loads((folder / "figures.json").read_text())
    table["grouped-token"]["value"] *= 1.01
    (folder / "figures.json").write_text(json.dumps(table))
    names = ["grouped-token", "grouped-texts"]
    (said,) = differences(script, load_question(folder), names, tmp_path)
    assert "grouped-token is 297861 on the page and 294912 now" in said


def test_a_plan_for_named_hardware_is_always_measured_again() -> None:
    """It takes a second and needs no data and no machine."""
    for question in BANK.values():
        for name, figure in question.facts.figures.items():
            if re.match(r"shuyuan plan .* --on ", figure.command):
                assert figure.rerun_within, (question.id, name)
