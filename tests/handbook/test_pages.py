"""Pages show what was measured, and nothing else, as a figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shuyuan.handbook import Question, exercise, load_bank, load_question, page, render
from shuyuan.handbook.words import HEADINGS, LANGUAGES

DOCS = Path(__file__).parents[2] / "docs" / "handbook"


def test_an_unmeasured_figure_says_so(coding: Question) -> None:
    assert "It is *not measured yet*." in page(coding, "en")
    assert "*尚未测量*" in page(coding, "zh")
    assert "shuyuan doctor" in page(coding, "zh")


def test_a_measured_figure_comes_with_command_hardware_and_date(coding: Question) -> None:
    entry = {
        "value": 12345.6,
        "unit": "tokens/s",
        "command": "shuyuan doctor",
        "hardware": "2 cores",
        "date": "2026-01-31",
    }
    (coding.folder / "figures.json").write_text(
        json.dumps({"speed": entry | {"versions": {"torch": "2.13.0"}}})
    )
    english, chinese = (page(load_question(coding.folder), language) for language in LANGUAGES)
    assert "It is 12,300." in english
    assert "| speed | 12,300 tokens/s |" in english
    assert "```sh\nshuyuan doctor\n```\n\n*Measured on 2026-01-31: 2 cores; torch 2.13.0.*" in english
    assert "| 速度 | 1.23 万 词元/秒 |" in chinese
    assert "not measured" not in english


@pytest.mark.parametrize("name", load_bank())
def test_pages_are_whole_and_exercises_give_nothing_away(name: str) -> None:
    question = load_bank()[name]
    for language in LANGUAGES:
        text = page(question, language)
        assert "{{" not in text
        places = [text.index(f"\n## {heading}\n") for heading in HEADINGS[language]]
        assert places == sorted(places)
        task = exercise(question, language)
        assert text.endswith(task)
        assert not any(part.working in task for part in question.facts.parts)
        assert "shuyuan practice grade" in task
    if question.facts.coding:
        assert "no security sandbox" in exercise(question, "en")
        assert "不是安全沙箱" in exercise(question, "zh")


def test_a_line_break_inside_chinese_is_no_space(coding: Question) -> None:
    file = coding.folder / "zh.md"
    text = file.read_text(encoding="utf-8").replace(
        "Text.", "一句\n中文，\n- 列表\n- 用 fp16\n训练。\n  GPU 三\n", 1
    )
    file.write_text(text, encoding="utf-8")
    assert "一句中文，\n- 列表\n- 用 fp16\n训练。GPU 三" in page(load_question(coding.folder), "zh")


def test_the_rendered_handbook_is_the_one_in_docs(tmp_path: Path) -> None:
    """`make docs` was run after the last change, and no page of a removed question is left."""
    written = {file.relative_to(tmp_path): file.read_text(encoding="utf-8") for file in render(tmp_path)}
    committed = {file.relative_to(DOCS): file.read_text(encoding="utf-8") for file in DOCS.glob("*/*.md")}
    assert committed == written
    assert {path.parts[0] for path in written} == {"en", "zh"}
