"""The examples of CONTRIBUTING.md: what it says is done to a copy of the source, and the result is run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## Add a (\w+)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
FILE_OR_BLOCK = re.compile(r"^`([\w./]+)`:$|^```(python|diff|toml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def built(folder: Path, section: str) -> Path:
    """A copy of the source with what a section says done to it."""
    left_out = shutil.ignore_patterns("__pycache__", "questions", "web")
    shutil.copytree(ROOT / "src/shuyuan", folder / "src/shuyuan", ignore=left_out)
    file = folder
    for name, kind, content in FILE_OR_BLOCK.findall(SECTIONS[section]):
        if name:
            file = folder / name
        elif kind == "diff":
            changed(file, content)
        else:
            assert not file.exists(), f"{file.name} is there already"
            file.write_text(content, encoding="utf-8")
    return folder


def changed(file: Path, change: str) -> None:
    """Puts the lines with + where those with - are, which must stand in the file once."""
    was, now = (
        "".join(line[1:] + "\n" for line in change.splitlines() if line.startswith(mark)) for mark in "-+"
    )
    text = "\n" + file.read_text(encoding="utf-8")
    assert was and text.count("\n" + was) == 1, f"{file.name} does not have this once:\n{was}"
    file.write_text(text.replace("\n" + was, "\n" + now)[1:], encoding="utf-8")


def command(folder: Path, *arguments: str) -> dict[str, Any]:
    """What `shuyuan … --json` of the copy says."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "shuyuan", *arguments, "--json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_every_kind_of_addition_has_an_example() -> None:
    assert SECTIONS.keys() == {"source", "task", "family", "question"}
    assert "docs/adding-a-question.md" in SECTIONS["question"]  # whose own test is in tests/handbook


def test_the_source(tmp_path: Path) -> None:
    folder = built(tmp_path, "source")
    (folder / "mail").mkdir()
    for number in range(12):
        head = f"From: writer{number % 6}@example.org\nSubject: number {number}\n"
        body = f"The {number}th message speaks of {'things ' * number}and ends."
        (folder / f"mail/{number}.eml").write_text(f"{head}\n{body}\n", encoding="utf-8")
    page = "Subject: x\nContent-Type: text/html\n\n<p>Nothing plain.</p>\n"
    (folder / "mail/page.eml").write_text(page, encoding="utf-8")
    told = command(folder, "prepare", "recipe.toml")
    manifest = json.loads((folder / "runs/mail/data/manifest.json").read_text())
    assert manifest["skipped"] == {"messages without plain text": 1}, told
    assert sum(split["records"] for split in manifest["splits"].values()) == 12


def reviews(folder: Path) -> None:
    rows = [f"review {number} has {number % 5} things,{number % 5 + 1}" for number in range(80)]
    (folder / "reviews.csv").write_text("\n".join(["text,stars", *rows]), encoding="utf-8")


def test_the_task_is_prepared(tmp_path: Path) -> None:
    folder = built(tmp_path, "task")
    reviews(folder)
    command(folder, "prepare", "recipe.toml")
    manifest = json.loads((folder / "runs/stars/data/manifest.json").read_text())
    assert manifest["labels"] == ["1", "2", "3", "4", "5"]


@pytest.mark.slow
def test_the_task_is_trained_and_scored(tmp_path: Path) -> None:
    folder = built(tmp_path, "task")
    reviews(folder)
    scores = command(folder, "run", "recipe.toml")["scores"]["rating"]["original"]
    assert 0 < scores["validation.off_by"] < 4


def test_the_family_has_the_parameters_that_its_shape_says(tmp_path: Path) -> None:
    folder = built(tmp_path, "family")
    code = (
        "from shuyuan.models import hub\n"
        "from shuyuan.models.linear_config import LinearConfig\n"
        "config = LinearConfig(8, 8, 1, ('a', 'b'), widths=())\n"
        "assert LinearConfig.from_hub(config.to_hub()) == config\n"
        "shapes = {name: tuple(each.shape) for name, each in hub.scratch(config).named_parameters()}\n"
        "assert shapes == config.shapes and config.parameters == 130, shapes\n"
    )
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.slow
def test_the_family_is_trained_and_loaded_again(tmp_path: Path) -> None:
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("the extra `images` is not installed")
    folder = built(tmp_path, "family")
    told = command(folder, "run", "recipe.toml")
    assert told["family"] == "linear"
    assert told["parameters"] == 650
    assert told["scores"]["classification"]["original"]["validation.accuracy"] > 0.5
