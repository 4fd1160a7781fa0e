"""`shuyuan practice`, in English and Chinese, at 80 columns."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from typer.testing import CliRunner

from shuyuan.cli.practice import app
from shuyuan.cli.wrapped import breaks
from shuyuan.handbook import QUESTIONS, load_bank, page

SOLUTION = QUESTIONS / "training-efficiency" / "solution.py"


@pytest.fixture(autouse=True)
def _a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def practice(*words: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == status, result.output
    assert all(cell_len(line) <= 80 for line in result.stdout.splitlines() if not line.startswith("{"))
    return result


def as_json(*words: object, status: int = 0) -> dict[str, object]:
    return json.loads(practice(*words, "--json", status=status).stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_list_shows_progress_and_what_is_next() -> None:
    text = practice("list").stdout
    assert practice().stdout == text
    assert "What does training a large model cost?" in text
    assert f"0 of {len(load_bank())} solved." in text
    assert "Next: shuyuan practice show what-is-a-large-model" in text
    practice("grade", "what-is-a-large-model", "a", "c", "f")
    practice("grade", "training-cost", "days=28.4")
    assert "1 of 6" in practice("list").stdout
    parts = load_bank()["training-cost"].facts.parts
    practice("grade", "training-cost", *(f"{part.id}={part.value!r}" for part in parts))
    listed = as_json("list", "--lang", "zh")
    assert listed["next"] == "training-efficiency"
    assert listed["questions"][1]["state"] == "已完成"  # type: ignore[index]
    assert "完成 2 题" in practice("list", "--lang", "zh").stdout
    assert "train_step" in practice("next").stdout


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_title_in_the_list_is_cut(language: str) -> None:
    text = practice("list", "--lang", language).stdout
    assert "…" not in text and all(cell_len(line) <= 80 for line in text.splitlines())
    for question in load_bank().values():
        assert question.facts.title[language][-2:] in text  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "language"), [("LANG", "zh_CN.UTF-8"), ("LC_ALL", "zh_TW"), ("LC_MESSAGES", "zh")]
)
def test_the_locale_chooses_the_language(monkeypatch: pytest.MonkeyPatch, name: str, language: str) -> None:
    monkeypatch.setenv(name, language)
    assert "怎样提高训练效率？" in practice("list").stdout
    assert "How is training" in practice("list", "--lang", "en").stdout
    if name == "LANG":
        monkeypatch.setenv("LC_ALL", "C.UTF-8")
        assert "How is training" in practice("list").stdout


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("question_id", list(load_bank()))
def test_show_fits_the_terminal_and_keeps_code_lines_whole(question_id: str, language: str) -> None:
    question = load_bank()[question_id]
    text = practice("show", question_id, "--lang", language).stdout
    assert question.facts.title[language] in text  # type: ignore[index]
    shown = {line.strip() for line in text.splitlines()}
    whole = page(question, language)  # type: ignore[arg-type]
    code = [line for block in whole.split("```")[1::2] for line in block.splitlines()[1:] if line.strip()]
    assert code and all(line.strip() in shown for line in code)
    assert text.count("…") == whole.count("…"), "a cell of a table is cut"
    task = practice("show", question_id, "--exercise", "--lang", language).stdout
    assert len(task) < len(text) / 2 and "References" not in task and "参考资料" not in task


def test_starter_is_printed_or_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "def train_step" in practice("starter", "training-efficiency").stdout
    assert "a100-hours =" in practice("starter", "training-cost").stdout
    file = Path("mine.py")
    practice("starter", "training-efficiency", "--to", file)
    assert "NotImplementedError" in file.read_text()
    file.write_text("my work")
    result = practice("starter", "training-efficiency", "--to", file, status=1)
    assert "handbook.file-exists" in result.stderr and file.read_text() == "my work"
    assert as_json("starter", "training-cost")["text"]


def test_grade_numbers_in_both_languages() -> None:
    result = practice("grade", "training-cost", "a100-hours=349448", "days=28.4", "--lang", "zh", status=1)
    assert "2:4 稀疏" in result.stdout and "✓ days" in result.stdout and "还没有回答" in result.stdout
    assert "sparsity" in practice("grade", "training-cost", "a100-hours=349448", status=1).stdout
    graded = as_json("grade", "training-cost", "a100-hours=0.7 million", "v100-hours=3.1e6")
    assert graded["correct"] is True and graded["solved"] is None


def test_grade_code_and_show_what_it_printed(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("print('[bold]here[/bold] \\x1b[31m')\n" + SOLUTION.read_text(encoding="utf-8"))
    text = practice("grade", "training-efficiency", file).stdout
    assert "[bold]here[/bold] ⟨U+001B⟩[31m" in text
    assert "Everything is as asked." in text and "Solved: How is training made efficient?" in text
    assert as_json("list")["questions"][2]["solved"]  # type: ignore[index]


def test_an_unwritable_home_is_said_and_grading_goes_on(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    result = practice("grade", "training-cost", "days=28.4")
    assert "✓ days" in result.stdout
    assert result.stderr.count("cannot be saved") == 1


def test_an_unknown_question_suggests_the_nearest() -> None:
    result = practice("show", "training-cots", status=1)
    assert "Did you mean training-cost?" in result.stderr
    assert as_json("grade", "nothing", "1", status=1)["error"]["code"] == "handbook.unknown-question"  # type: ignore[index]
    practice("grade", "training-cost", status=2)


def test_all_solved() -> None:
    data = Path(os.environ["XDG_DATA_HOME"]) / "shuyuan"
    data.mkdir(parents=True)
    solved = {name: {"tries": 1, "parts": [], "solved": "2026-01-01"} for name in load_bank()}
    (data / "practice.json").write_text(json.dumps({"version": 1, "questions": solved}))
    assert "所有题目都已完成" in practice("next", "--lang", "zh").stdout
    assert as_json("next")["id"] is None
    assert "All questions are solved." in practice("list").stdout


@given(st.text(st.sampled_from("模型训练，。（）“”a bc 1.5  -é"), max_size=200), st.integers(8, 80))
def test_breaking_lines_loses_nothing(text: str, width: int) -> None:
    offsets = [0, *breaks(text, width), len(text)]
    assert offsets == sorted(offsets)
    assert "".join(text[a:b] for a, b in pairwise(offsets)) == text


@given(st.text(st.sampled_from("模型训练，。（"), max_size=200), st.integers(8, 80))
def test_no_line_begins_with_a_stop(text: str, width: int) -> None:
    assert not any(("模" + text)[offset] in "，。" for offset in breaks("模" + text, width))


def test_a_long_chinese_sentence_fills_its_lines() -> None:
    text = "训练大模型要先算运算量，再除以一张卡实际能跑到的速度（稠密峰值的三到五成）。" * 5
    offsets = [0, *breaks(text, 40), len(text)]
    widths = [cell_len(text[a:b]) for a, b in pairwise(offsets)]
    assert max(widths) <= 40 and min(widths[:-1]) >= 36
