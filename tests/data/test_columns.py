"""Two lines of recipe and a table as people have it: columns are found under the names that they give them, and said."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from shuyuan import pipeline
from shuyuan.data.columns import NAMES, found_columns
from shuyuan.data.sources import Skipped, Wanted, open_source
from shuyuan.progress import Progress
from shuyuan.recipe import TASK_FIELDS, differences, from_table

REVIEWS = [
    [f"The room number {n} was {'fine' if n % 2 else 'cold'}, at noon.", "pos" if n % 2 else "neg"]
    for n in range(60)
]
PAIRS = [[f"Number {n}.", f"第{n}号。"] for n in range(60)]


class Hears(Progress):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def say(self, code: str, text: str) -> None:
        self.heard.append(f"{code} {text}")


def table(path: Path, rows: list[list[Any]], header: list[str] | None, **how: Any) -> Path:
    encoding = how.pop("encoding", "utf-8")
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, **how).writerows([*([header] if header else []), *rows])
    return path


def found(path: Path, task: str, **tables: Any) -> dict[str, str]:
    recipe = from_table({"task": task, "data": {"source": str(path)}, **tables})
    hears = Hears()
    changes = found_columns(recipe, hears)
    assert len(hears.heard) == len(changes)
    assert all(f"data.column.{key.removeprefix('data.')} The column `{column}`" in " ".join(hears.heard)
               for key, column in changes.items())  # fmt: skip
    return {key.removeprefix("data."): column for key, column in changes.items()}


@pytest.mark.parametrize(
    ("header", "rows", "task", "expected"),
    [
        (["review", "sentiment"], REVIEWS, "sentiment", {"text": "review", "label": "sentiment"}),
        (["Sentence ", "label"], REVIEWS, "classification", {"text": "Sentence "}),
        (["文本", "标签"], REVIEWS, "classification", {"text": "文本", "label": "标签"}),
        (["text", "label"], REVIEWS, "sentiment", {}),
        (["en", "zh"], PAIRS, "translation", {"source_text": "en", "target": "zh"}),
        (["source", "target"], PAIRS, "translation", {}),
        (["问题", "答案"], PAIRS, "question-answering", {"question": "问题", "answer": "答案"}),
        (["article", "highlights"], PAIRS, "summarization", {"text": "article", "summary": "highlights"}),
        (["text", "title"], PAIRS, "summarization", {"summary": "title"}),
        (["a", "b"], PAIRS, "translation", {}),
        (None, PAIRS, "translation", {"source_text": "1", "target": "2"}),
        (None, REVIEWS, "sentiment", {"text": "1", "label": "2"}),
        (None, [[label, text] for text, label in REVIEWS], "sentiment", {"text": "2", "label": "1"}),
        (
            None,
            [["to title", text * 3, text] for text, _ in REVIEWS],
            "summarization",
            {"text": "2", "summary": "3"},
        ),
    ],
)
def test_columns_are_found_by_their_names_or_where_there_are_none_by_what_they_hold(
    tmp_path: Path, header: list[str] | None, rows: list[list[str]], task: str, expected: dict[str, str]
) -> None:
    assert found(table(tmp_path / "t.csv", rows, header), task) == expected
    assert found(table(tmp_path / "t.tsv", rows, header, delimiter="\t"), task) == expected


def test_what_the_recipe_names_is_never_changed(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", REVIEWS, ["review", "sentiment"])
    named = from_table(
        {"task": "sentiment", "data": {"source": str(path), "text": "sentiment", "label": "review"}}
    )
    assert found_columns(named, Progress()) == {}
    half = from_table({"task": "sentiment", "data": {"source": str(path), "label": "review"}})
    assert found_columns(half, Progress()) == {}, "the only column left is no name of a text"


def test_private_records_are_not_looked_at(tmp_path: Path) -> None:
    """Names of columns are no record; what stands in a table without a header is."""
    private = {"privacy": {"epsilon": 8.0, "unit": "record", "allow": ["labels"]}}
    assert found(table(tmp_path / "t.csv", REVIEWS, ["review", "label"]), "sentiment", **private) == {
        "text": "review"
    }
    assert found(table(tmp_path / "u.csv", REVIEWS, None), "sentiment", **private) == {}


def test_formats_that_a_task_knows_need_no_names(tmp_path: Path) -> None:
    squad = {
        "data": [{"title": "t", "paragraphs": [{"context": "c", "qas": [{"question": "q", "answers": []}]}]}]
    }
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    assert found(tmp_path / "squad.json", "question-answering") == {}
    (tmp_path / "hub.jsonl").write_text(json.dumps({"translation": {"en": "One.", "zh": "一。"}}))
    assert found(tmp_path / "hub.jsonl", "translation") == {"source_text": "en", "target": "zh"}
    (tmp_path / "chat.jsonl").write_text(json.dumps({"conversations": []}))
    assert found(tmp_path / "chat.jsonl", "chat") == {}


def test_no_name_stands_twice_and_every_field_is_one_of_a_task() -> None:
    assert all(len(set(names)) == len(names) and key not in names for key, names in NAMES.items())
    assert set(NAMES) <= {"text"}.union(*TASK_FIELDS.values())
    assert all(name == name.strip().lower() for names in NAMES.values() for name in names)


def test_the_run_says_which_columns_and_goes_on_under_the_same_two_lines(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", REVIEWS, ["review", "sentiment"])
    recipe = {"task": "sentiment", "data": {"source": str(path)}, "train": {"budget": "2 steps"}}
    pipeline.run(recipe, out=tmp_path / "run")
    resolved = pipeline.locate(tmp_path / "run")[1]
    assert (resolved.data.text, resolved.data.label) == ("review", "sentiment")
    assert differences(resolved, from_table(recipe)) == []
    assert pipeline.run(recipe, out=tmp_path / "run")["steps"] == 2
    recipe["data"]["text"] = "other"
    assert [line.split(":")[0] for line in differences(resolved, from_table(recipe))] == ["data.text"]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_says_by_its_first_line_what_divides_it(tmp_path: Path, mark: str) -> None:
    """With a byte order mark, and with the other marks inside of fields."""
    path = table(
        tmp_path / "t.csv", [["a;b,c", "1"]], ["text", "label"], delimiter=mark, encoding="utf-8-sig"
    )
    rows = list(open_source(str(path), Wanted("text", ("text", "label"))).rows(Skipped()))
    assert [dict(row.values) for row in rows] == [{"text": "a;b,c", "label": "1"}]
