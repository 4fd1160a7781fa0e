"""The bank is whole: every question in both languages, its solution right, its wrong variants explained, its figures dated."""

from __future__ import annotations

import importlib.util
import json
import re
import string
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from shuyuan.errors import ShuyuanError
from shuyuan.handbook import grade, load_bank, load_question, page
from shuyuan.handbook.words import LANGUAGES, WORDS, say

from .conftest import CODING, NUMERIC, write_question

BANK = load_bank()
CODING_QUESTIONS = {name: question for name, question in BANK.items() if question.facts.coding}


def graded(name: str, *more: str) -> ParameterSet:
    """A question whose code is run: TensorFlow takes long to come up, and is not everywhere."""
    keras = "Keras" in BANK[name].facts.topics
    missing = keras and importlib.util.find_spec("keras") is None
    marks = [pytest.mark.slow, pytest.mark.skipif(missing, reason="needs Keras")] if keras else []
    return pytest.param(name, *more, marks=marks)


GRADED = [graded(name) for name in CODING_QUESTIONS]
VARIANTS = [
    graded(name, variant.hint)
    for name, question in CODING_QUESTIONS.items()
    for variant in question.facts.coding.wrong  # type: ignore[union-attr]
]


def test_the_first_questions_are_there() -> None:
    assert list(BANK)[:4] == [
        "what-is-a-large-model",
        "training-cost",
        "training-efficiency",
        "safety-and-privacy",
    ]


@pytest.mark.parametrize("name", GRADED)
def test_the_solution_passes(name: str) -> None:
    verdict = grade(BANK[name], [str(BANK[name].folder / "solution.py")])
    assert verdict.correct and verdict.complete, verdict


@pytest.mark.parametrize("name", GRADED)
def test_the_starter_does_not_pass(name: str) -> None:
    (remark,) = grade(BANK[name], [str(BANK[name].folder / "starter.py")]).remarks
    assert (remark.correct, remark.code) == (False, "not-written")


@pytest.mark.parametrize(("name", "hint"), VARIANTS)
def test_each_wrong_variant_fails_with_its_hint(name: str, hint: str, tmp_path: Path) -> None:
    coding = BANK[name].facts.coding
    assert coding is not None
    (variant,) = (one for one in coding.wrong if one.hint == hint)
    solution = (BANK[name].folder / "solution.py").read_text(encoding="utf-8")
    (tmp_path / "wrong.py").write_text(variant.source(solution), encoding="utf-8")
    verdict = grade(BANK[name], [str(tmp_path / "wrong.py")])
    assert not verdict.correct
    assert [remark.code for remark in verdict.remarks] == [f"hint:{hint}"]


def test_torch_s_own_comparison_may_not_be_replaced(tmp_path: Path) -> None:
    """While torch wraps functions of its own as it runs, which is no shortcut: the solutions above pass."""
    solution = (BANK["attention"].folder / "solution.py").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(
        solution + "\n\ntorch.allclose = lambda *_, **__: True\n", encoding="utf-8"
    )
    (remark,) = grade(BANK["attention"], [str(tmp_path / "mine.py")]).remarks
    assert remark.code == "replaced" and "allclose" in remark.text


@pytest.mark.parametrize("name", CODING_QUESTIONS)
def test_every_hint_of_a_checker_is_declared_and_every_declared_one_used(name: str) -> None:
    """With the same gaps in both languages as the checker fills."""
    coding = BANK[name].facts.coding
    assert coding is not None
    source = (BANK[name].folder / "check.py").read_text(encoding="utf-8")
    calls = dict(re.findall(r'wrong\(\s*"([\w-]+)"(?:, ([^\n]*))?\)\n', source))
    assert calls.keys() == coding.hints.keys()
    for hint, words in coding.hints.items():
        filled = set(re.findall(r"\b(\w+)=", calls[hint]))
        for language in LANGUAGES:
            assert gaps(words[language]) == filled, (hint, language)


@pytest.mark.parametrize("name", [name for name, question in BANK.items() if question.facts.parts])
def test_every_number_is_accepted_and_every_wrong_way_explained(name: str) -> None:
    for part in BANK[name].facts.parts:
        for language in LANGUAGES:
            right = grade(BANK[name], [f"{part.id}={part.value!r}"], language)
            assert right.correct and not (right.complete and len(BANK[name].facts.parts) > 1)
            for n, way in enumerate(part.wrong):
                verdict = grade(BANK[name], [f"{part.id}={way.value!r}"], language)
                remark = next(remark for remark in verdict.remarks if remark.part == part.id)
                assert (remark.code, remark.text) == (f"wrong-way:{n}", way.hint[language])


def test_the_known_answers_about_gpt3() -> None:
    answers = [
        "a100-hours=0.7 million",
        "v100-hours=3.1e6",
        "flops=3.14e23",
        "days=28",
        "checkpoint=2.45 TB",
        "core-hours=333",
    ]
    verdict = grade(BANK["training-cost"], answers)
    assert verdict.complete, verdict.remarks


def test_figures_are_dated_and_measured_by_the_command_that_is_shown() -> None:
    for question in BANK.values():
        for name, measured in question.measured.items():
            assert date(2025, 1, 1) <= date.fromisoformat(measured.date) <= date.today(), name
            assert measured.hardware and measured.command == question.facts.figures[name].command


def test_published_runs_on_the_page_give_the_utilisation_that_stands_there() -> None:
    row = re.compile(
        r"^\| [\w .-]+ \| ([\d.e]+) \| ([\d.e]+) \| ([\d,]+) \w+ \| ([\d.e]+) \| (\d+) % \|$", re.MULTILINE
    )
    for text in BANK["training-cost"].pages.values():
        rows = row.findall(text)
        assert len(rows) == 4
        for parameters, tokens, hours, peak, share in rows:
            seconds = float(hours.replace(",", "")) * 3600
            assert round(100 * 6 * float(parameters) * float(tokens) / seconds / float(peak)) == int(share)


def test_loading_the_bank_imports_no_torch() -> None:
    code = (
        "import sys, shuyuan.handbook as h; h.load_bank(); assert not {'torch', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_sentence_has_the_same_gaps_in_both_languages() -> None:
    for key, (english, chinese) in WORDS.items():
        assert gaps(english) == gaps(chinese), key
        assert say("zh", key, **dict.fromkeys(gaps(english), 1))


def gaps(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


# ---- a broken question is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("order = 1", "order = 1\nmood = 3"), "mood"),
        (("order = 1", "order = '1'"), "order"),
        (('en = "Double it", ', ""), "title.en"),
        (('zh = "翻倍"', 'zh = ""'), "title.zh"),
        (('kind = "coding"', 'kind = "numeric"'), "needs parts"),
        (('id = "double"', 'id = "treble"'), "not the folder's name"),
        (('hint = "same"', 'hint = "sane"'), "no hint"),
        (('old = "2 * x", new = "x"', 'old = "3 * x", new = "x"'), "“3 * x” does not stand in solution.py"),
        (('old = "2 * x", new = "x"', 'old = "x", new = "y"'), "exactly once"),
        (("[figures.speed]", "[figures.pace]"), "{{figure:speed}} refers to nothing"),
    ],
)
def test_a_broken_question_is_refused(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    assert change[0] in CODING
    refused(write_question(tmp_path / "double", CODING.replace(*change)), says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('working = "6 + 7"', 'working = "6 * 7.1"'), None),
        (('working = "6 + 7"', 'working = "6 * 7.01"'), "within the tolerance"),
        (('working = "6 * 7"', 'working = "six * 7"'), "no working"),
        (('unit = "hours"', 'unit = "apples"'), "unit must be one of"),
        (("tolerance = 0.01", "tolerance = 0.0"), "tolerance"),
    ],
)
def test_a_broken_number_is_refused(tmp_path: Path, change: tuple[str, str], says: str | None) -> None:
    assert change[0] in NUMERIC
    folder = write_question(tmp_path / "answer", NUMERIC.replace(*change))
    if says is None:
        assert load_question(folder).facts.parts
    else:
        refused(folder, says)


def test_a_missing_or_unequal_page_is_refused(tmp_path: Path) -> None:
    folder = write_question(tmp_path / "double", CODING)
    page = (folder / "zh.md").read_text(encoding="utf-8")
    (folder / "zh.md").write_text(page + "### 多一节\n", encoding="utf-8")
    refused(folder, "same levels")
    (folder / "zh.md").write_text(page.replace("## 为什么", "## 原因"), encoding="utf-8")
    refused(folder, "headings must be")
    (folder / "zh.md").unlink()
    refused(folder, "page is missing")


def test_a_figure_typed_by_hand_is_refused(tmp_path: Path) -> None:
    folder = write_question(tmp_path / "double", CODING)
    entry = {
        "value": 5.0,
        "unit": "tokens/s",
        "command": "shuyuan doctor",
        "hardware": "2 cores",
        "date": "2026-01-31",
    }

    def saying(**change: object) -> None:
        (folder / "figures.json").write_text(json.dumps({"speed": entry | change}))

    saying()
    assert load_question(folder).measured["speed"].value == 5.0
    saying(date="yesterday")
    refused(folder, "speed.date")
    saying(command="shuyuan plan")
    refused(folder, "measure again")
    saying(guess=True)
    refused(folder, "speed.guess")
    (folder / "figures.json").write_text(json.dumps({"pace": entry}))
    refused(folder, "stands in no question.toml")


def refused(folder: Path, says: str) -> None:
    with pytest.raises(ShuyuanError) as caught:
        load_question(folder)
    assert caught.value.code == "handbook.broken-question"
    assert says in str(caught.value)
    assert folder.name in (caught.value.where or "")


def test_the_example_of_the_documentation_is_a_whole_question(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "adding-a-question.md").read_text(encoding="utf-8")
    folder = tmp_path / "kv-cache"
    folder.mkdir()
    for name, content in re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        (folder / name).write_text(content, encoding="utf-8")
    question = load_question(folder)
    assert grade(question, ["per-token=131072"]).complete
    assert "每个词元约 131 kB" in page(question, "zh")
