"""The demo, made small: `shuyuan run` without a recipe."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from rich.cells import cell_len

from shuyuan import recipe as recipes
from shuyuan.cli.closing import words_of
from shuyuan.cli.run import DEMO
from tests.runs import shuyuan, text_of

SMALL = [
    "data.record=line", "tokenizer.kind=byte", "model.layers=1", "model.width=32", "model.context=32", "train.budget=3 steps",
]  # fmt: skip


def test_the_demo_reads_what_needs_no_download() -> None:
    recipe = recipes.load(DEMO)
    assert recipe.data.source == "stdlib"
    assert recipe.vault is not None and recipe.vault.key.startswith("file:")


def test_the_demo_tells_the_whole_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text(text_of(300), encoding="utf-8")
    changes = [part for change in ["data.source=notes.txt", *SMALL] for part in ("--set", change)]
    outcome = shuyuan("run", *changes)
    assert outcome.status == 0, outcome.stderr

    key = Path(recipes.load(DEMO).vault.key.removeprefix("file:"))  # type: ignore[union-attr]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert not key.is_relative_to(tmp_path / "runs")

    for word in (
        "plan",
        "data",
        "training loss",
        "validation loss",
        "Kneser-Ney",
        "sealed",
        "report",
        "sample 3",
        "next",
    ):
        assert word in outcome.stdout, word
    assert (tmp_path / "runs/demo/report.html").is_file()
    too_wide = [
        line for line in outcome.stdout.split("\n") if cell_len(line) > 80 and not line.startswith("next: ")
    ]
    assert not too_wide, "fits a terminal of 80 columns; the command to copy stays on one line"

    assert shuyuan("info", "runs/demo", "--json").json["sealed"] is True, (
        "later commands find the key by themselves"
    )
    assert shuyuan("generate", "runs/demo", "line", "--max-tokens", "3").status == 0
    before = key.read_bytes()
    assert shuyuan("run", *changes).status == 0
    assert key.read_bytes() == before


def test_what_is_to_be_tried_next_can_be_typed() -> None:
    assert words_of({"prompt": "\ufffd\ufffd里。 记录 it's 142"}) == "'里。 记录 it'\"'\"'s'"
    question = "Where do I send goods that came broken?"
    assert words_of({"asked": question, "prompt": "…"}) == f"'{question}'"
    assert (
        words_of(
            {
                "prompt": "患者因左臂皮疹和头晕来诊。上午患者睡得很好，随后散步。血压143/67。家属电话[phone]，住在城里，没有过敏。"
            }
        )
        == "'患者因左臂皮疹和头晕来诊'"
    )
