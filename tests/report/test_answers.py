"""What the page says of answers: every figure from the run's files, texts that cannot act, and nothing on a public page."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from shuyuan import recipe as recipes
from shuyuan.report import write_report
from shuyuan.report.page import INTERNAL_FILE, render
from shuyuan.report.sections import score_table

from .conftest import RECIPE, MakeRun
from .test_public_scores import private

HOSTILE = "<script>alert(1)</script>"
SCORES = {
    "validation.loss": 2.5, "validation.answers": 187.0,
    "validation.bleu_en_zh": 31.234, "validation.bleu_en_zh_low": 28.1, "validation.bleu_en_zh_high": 34.9,
    "validation.baseline_memory_bleu_en_zh": 12.7, "validation.rouge_l": 0.4567,
}  # fmt: skip
ANSWERS: dict[str, Any] = {
    "measure": "chrf",
    "slices": [
        {"slice": "short", "from": 1, "to": 4, "records": 63, "mean": 45.67, "low": 40.1, "high": 51.2}
    ],
    "worst": [{"prompt": HOSTILE, "answer": "wrong words", "right": "right words", "score": 3.21}],
}


def changed(task: str) -> dict[str, Any]:
    sample = {"prompt": "Held out", "text": " \u2192 said", "answer": "should be said"}
    return {
        "scores.json": {task: {"original": SCORES}},
        "answers.json": {"original": {"validation": ANSWERS}},
        "samples.json": [sample],
    }


def recipe_of(task: str) -> str:
    table = tomllib.loads(RECIPE.format(extra="")) | {"task": task}
    table["data"].pop("record", None)
    table["data"].pop("text", None)
    return recipes.check(table, where="test").as_toml()


def test_an_open_page_shows_scores_slices_and_the_worst_answers(make_run: MakeRun) -> None:
    run, store = make_run(recipe=recipe_of("translation"), changed=changed("translation"))
    page = render(run, store, whole=True)
    for told in (
        "BLEU, en to zh", "31.2 (28.1 to 34.9)", "BLEU, en to zh, what stands beside the most similar training record", "12.7",
        "ROUGE-L", "45.7 %".replace(" %", "%"), "Prompts answered", "187", "short: 1 to 4 words", "40.1 to 51.2", "wrong words",
        "right words (chrF 3.2)", "The record answers: should be said",
    ):  # fmt: skip
        assert told in page, told
    assert HOSTILE not in page and "alert(1)" in page
    assert "bleu en zh low" not in page


@pytest.mark.parametrize("allow", [[], ["scores"]])
def test_a_public_page_shows_no_answer_no_count_and_no_baseline(make_run: MakeRun, allow: list[str]) -> None:
    table = tomllib.loads(private(allow, False)) | {"task": "translation"}
    for key in ("record", "text"):
        table["data"].pop(key, None)
    recipe = recipes.check(table, where="test").as_toml()
    run, store = make_run(recipe=recipe, changed=changed("translation"))
    page = write_report(run, store, run.recipe()).read_text(encoding="utf-8")
    assert ("31.2" in page) == ("scores" in allow)
    inside = store.read(INTERNAL_FILE).decode()
    for internal in ("wrong words", "Held out", "12.7", "Prompts answered", "short: 1 to 4 words"):
        assert internal not in page
        assert internal in inside


def test_an_end_of_an_interval_is_no_row_of_its_own(make_run: MakeRun) -> None:
    from shuyuan.report.facts import gather

    run, store = make_run(recipe=recipe_of("translation"), changed=changed("translation"))
    _, rows = score_table(gather(run, store, whole=True))
    assert [label for label, _, _ in rows if "low" in label or "high" in label] == []
    assert len(rows) == 5
