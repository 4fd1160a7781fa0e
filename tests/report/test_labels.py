"""What the page says of labels: every number from the scores, pictures that hold any name, nothing on a public page."""

from __future__ import annotations

import re
import tomllib
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from shuyuan import recipe as recipes
from shuyuan.report import write_report
from shuyuan.report.label_plots import MOST_DRAWN, calibration_plot, confusion_plot
from shuyuan.report.labels import MOST_ROWS, label_splits
from shuyuan.report.page import render
from shuyuan.report.svg import PALETTE, Styles
from shuyuan.tasks import Classification

from .conftest import RECIPE, MakeRun

HOSTILE = ["<script>alert(1)</script>", "$x^2$", "好评\u202e", "a" * 150]


def told(labels: int, count: int = 400, seed: int = 0) -> tuple[Any, Any]:
    """Probabilities of a model that is mostly right, and the right labels."""
    random = np.random.default_rng(seed)
    right = random.integers(labels, size=count)
    logits = random.normal(size=(count, labels)) + 3 * np.eye(labels)[right]
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), right


def changed(names: list[str], splits: tuple[str, ...] = ("validation",)) -> dict[str, Any]:
    """The files of a labelled run that its scores stand in."""
    task, (probabilities, right) = Classification(), told(len(names))
    scores = {
        f"{split}.{key}": value
        for split in splits
        for key, value in task.label_metrics(probabilities, right).items()
    }
    details = {split: task.label_details(probabilities, right, names) for split in splits}
    return {
        "scores.json": {"classification": {"original": scores}},
        "labels.json": {"original": details},
    }


def recipe_of(**tables: Any) -> str:
    table = tomllib.loads(RECIPE.format(extra="")) | {"task": "classification"} | tables
    return recipes.check(table, where="test").as_toml()


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


@pytest.mark.parametrize("labels", [2, 10, MOST_DRAWN])
def test_pictures_are_small_valid_and_in_the_palette(labels: int) -> None:
    found = Classification().label_details(*told(labels), list(map(str, range(labels))))
    styles = Styles()
    pictures = [
        confusion_plot(found["confusion"], list(map(str, range(labels))), "test", styles),
        calibration_plot(found["calibration"], "test", styles),
    ]
    for picture in pictures:
        assert picture is not None
        assert len(picture.encode()) < 90_000
        root = ElementTree.fromstring(picture)
        assert root.attrib["role"] == "img" and root[1].text
        assert "style=" not in picture and "data:" not in picture
        assert not any(stand_in in picture + styles.css() for stand_in in PALETTE.values())


def test_every_count_is_in_the_picture() -> None:
    matrix = [[51, 0, 7], [0, 62, 0], [3, 4, 73]]
    picture = confusion_plot(matrix, ["cat", "dog", "bird"], "test", Styles())
    assert picture is not None
    texts = [
        element.text for element in ElementTree.fromstring(picture).iter() if element.tag.endswith("text")
    ]
    assert sorted(map(str, texts)) == sorted(
        ["51", "7", "62", "3", "4", "73", "cat", "dog", "bird", "cat", "dog", "bird", "told", "label"]
    )
    assert "Of 200 records, 186 are told right" in picture
    assert "Most often, cat is taken for bird: 7 times." in picture
    assert confusion_plot([[1] * 21] * 21, ["x"] * 21, "test", Styles()) is None
    assert confusion_plot(None, ["x"] * 300, "test", Styles()) is None


def test_any_name_can_be_drawn(make_run: MakeRun) -> None:
    run, store = make_run(recipe=recipe_of(), changed=changed(HOSTILE, ("validation", "test")))
    page = write_report(run, store, run.recipe()).read_text(encoding="utf-8")
    assert "<script" not in page and "\u202e" not in page
    assert "&lt;script&gt;" in page and "$x^2$" in page and "好评" in page
    assert "Labels on validation" in page and "Labels on test" in page
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_the_table_tells_what_was_counted(make_run: MakeRun) -> None:
    files = changed(["cat", "dog", "bird"])
    run, store = make_run(recipe=recipe_of(), changed=files)
    text = text_of(render(run, store, whole=True))
    for each in files["labels.json"]["original"]["validation"]["classes"]:
        row = (
            f"{each['label']} {each['records']} {each['precision']:.1%} {each['recall']:.1%} {each['f1']:.1%}"
        )
        assert row in text
    scores = files["scores.json"]["classification"]["original"]
    interval = f"({scores['validation.accuracy_low']:.1%} to {scores['validation.accuracy_high']:.1%})"
    assert f"{scores['validation.accuracy']:.1%} {interval}" in text
    assert f"{scores['validation.calibration_error']:.1%}" in text
    assert "accuracy low" not in text


def test_slices_and_worst_errors_are_told(make_run: MakeRun) -> None:
    files = changed(["bad", "good"])
    files["labels.json"]["original"]["validation"] |= {
        "measure": "accuracy",
        "slices": [
            {"by": "length", "slice": "short", "from": 3, "to": 9, "unit": "tokens", "records": 40, "mean": 0.9, "low": 0.8, "high": 0.95},
            {"by": "label", "slice": "bad", "records": 40, "mean": 0.9, "low": 0.8, "high": 0.95},
        ],
        "worst": [{"prompt": "<i>fine", "answer": "bad", "right": "good", "score": 0.031}],
    }  # fmt: skip
    run, store = make_run(recipe=recipe_of(), changed=files)
    from shuyuan.report.facts import gather

    (split,) = label_splits(gather(run, store, whole=True), Styles())
    assert split.slices == [["short: 3 to 9 tokens", "40", "90.0%", "80.0% to 95.0%"]]
    page = render(run, store, whole=True)
    assert "<b>&lt;i&gt;fine</b>" in page and "<i>fine" not in page
    assert "good (3.1%)" in text_of(page)


def test_of_very_many_labels_the_worst_are_told(make_run: MakeRun) -> None:
    names = [f"label {number}" for number in range(300)]
    run, store = make_run(recipe=recipe_of(), changed=changed(names))
    from shuyuan.report.facts import gather

    (split,) = label_splits(gather(run, store, whole=True), Styles())
    assert len(split.rows) == MOST_ROWS and "50 of 300 labels" in split.note
    assert len(split.pictures) == 1
    assert split.confusions == []


def test_a_public_page_reads_none_of_it(make_run: MakeRun) -> None:
    private = {"privacy": {"epsilon": 3.0, "unit": "record", "allow": ["scores"]}}
    private["data"] = {"source": "stdlib", "labels": ["cat", "dog"]}  # type: ignore[dict-item]
    run, store = make_run(recipe=recipe_of(**private), changed=changed(["cat", "dog"]))
    page = render(run, store, whole=False)
    assert "Labels on" not in page and "Accuracy" in page
    assert "Labels on validation" in render(run, store, whole=True)
    run, store = make_run(sealed=True, changed=changed(["cat", "dog"]), folder="sealed")
    assert "Labels on" not in write_report(run, store, run.recipe()).read_text(encoding="utf-8")
    assert "labels.json" not in store.reads  # type: ignore[attr-defined]
