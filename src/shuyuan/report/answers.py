"""What the page says of answers to held-out prompts: how they are by the length of the prompt, and which are the worst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..evaluate.slices import described
from . import wording
from .facts import Facts

_SPLITS = ("validation", "test")
MEASURES = {"chrf": "chrF", "rouge_l": "ROUGE-L", "f1": "F1"}
POINTS = ("chrf",)  # from 0 to 100; the others are shares


@dataclass(frozen=True)
class AnswerSplit:
    """One split's answers.

    Attributes:
        name: of the split.
        measure: what an answer is judged by.
        rows: prompts by length, how many, the mean and its interval, as text.
        worst: {prompt, answer, right, score} of the worst answers, as text.
    """

    name: str
    measure: str
    rows: list[list[str]]
    worst: list[dict[str, str]]


def answer_splits(facts: Facts) -> list[AnswerSplit]:
    """Every split whose prompts were answered."""
    found = ((name, facts.answers.get(name)) for name in _SPLITS)
    return [_split(name, table) for name, table in found if isinstance(table, Mapping)]


def _split(name: str, table: Mapping[str, Any]) -> AnswerSplit:
    measure = str(table["measure"])

    def figure(value: float) -> str:
        return f"{value:.1f}" if measure in POINTS else wording.percent(value)

    rows = [
        [
            described(each),
            wording.count(each["records"]),
            figure(each["mean"]),
            f"{figure(each['low'])} to {figure(each['high'])}",
        ]
        for each in table["slices"]
    ]
    worst = [
        {key: str(each[key]) for key in ("prompt", "answer", "right")} | {"score": figure(each["score"])}
        for each in table["worst"]
    ]
    return AnswerSplit(name, MEASURES.get(measure, measure), rows, worst)
