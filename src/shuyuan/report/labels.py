"""What the page says of each label of a task that has some: how well it is told, and what it is taken for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..evaluate.slices import described
from ..visible import visible
from . import wording
from .facts import Facts
from .label_plots import calibration_plot, confusion_plot
from .svg import Styles

MOST_ROWS = 50  # labels in the table; of more, those that are told worst
CONFUSIONS = 5
MEASURES = {"accuracy": "Accuracy", "record_f1": "F1 of a record"}
_SPLITS = ("validation", "test")


@dataclass(frozen=True)
class LabelSplit:
    """One split, label by label.

    Attributes:
        name: of the split.
        pictures: SVG, the confusion matrix and the calibration; empty where nothing can be drawn.
        rows: label, records, precision, recall and F1, as text.
        note: what the table leaves out, or nothing.
        confusions: sentences, the most frequent confusion first.
        measure: what slices tell of.
        slices: of it, how many records, the mean and its interval, as text; without those by label, where it is the recall above.
        worst: {prompt, answer, right, score} of the worst errors, as text.
    """

    name: str
    pictures: list[Markup]
    rows: list[list[str]]
    note: str
    confusions: list[str]
    measure: str
    slices: list[list[str]]
    worst: list[dict[str, str]]


def label_splits(facts: Facts, styles: Styles) -> list[LabelSplit]:
    """Every split that the labels of were counted on."""
    found = ((name, facts.labels.get(name)) for name in _SPLITS)
    return [_split(name, table, styles) for name, table in found if isinstance(table, Mapping)]


def _split(name: str, table: Mapping[str, Any], styles: Styles) -> LabelSplit:
    classes, matrix = table["classes"], table["confusion"]
    labels = [visible(str(each["label"])) for each in classes]
    pictures = [
        confusion_plot(matrix, labels, name, styles),
        calibration_plot(table["calibration"], name, styles),
    ]
    shown, note = classes, ""
    if len(classes) > MOST_ROWS:
        shown = sorted(classes, key=lambda each: float(each["f1"]))[:MOST_ROWS]
        note = f"The {MOST_ROWS} of {len(classes):,} labels with the lowest F1."
    rows = [
        [str(each["label"]), wording.count(each["records"])]
        + [wording.percent(each[key]) for key in ("precision", "recall", "f1")]
        for each in shown
    ]
    measure = str(table.get("measure", "accuracy"))
    slices = [
        [described(each), wording.count(each["records"]), wording.percent(each["mean"]), _range(each)]
        for each in table.get("slices", [])  # runs of before have none
        if each["by"] != "label" or measure != "accuracy"
    ]
    worst = [
        {key: str(each[key]) for key in ("prompt", "answer", "right")}
        | {"score": wording.percent(each["score"])}
        for each in table.get("worst", [])
    ]
    shown_pictures = [Markup(each) for each in pictures if each]
    return LabelSplit(
        name, shown_pictures, rows, note, _confusions(matrix, labels), MEASURES[measure], slices, worst
    )


def _range(each: Mapping[str, Any]) -> str:
    return f"{wording.percent(each['low'])} to {wording.percent(each['high'])}"


def _confusions(matrix: list[list[int]] | None, labels: list[str]) -> list[str]:
    pairs = [
        (count, row, column)
        for row, counts in enumerate(matrix or [])
        for column, count in enumerate(counts)
        if row != column and count
    ]
    worst = sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))[:CONFUSIONS]
    return [f"{labels[row]} taken for {labels[column]}: {count:,}" for count, row, column in worst]
