"""Labels: what counts as one, how it is written, and how predictions of it are scored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.errors import DataError
from shuyuan.recipe import LABELLED_TASKS
from shuyuan.tasks import TASKS, Classification, Sentiment, Setting, task_named
from shuyuan.tasks.base import Label

FIELDS = {"text": "review", "label": "stars"}


def label_of(value: Any, **setting: Any) -> Label | None:
    task = Classification().configured(Setting(**setting))
    return task.example({"review": "好", "stars": value}, FIELDS, "a.csv:2").label


def test_the_recipe_knows_which_tasks_have_labels() -> None:
    assert {name for name, task in TASKS.items() if task.output == "labels"} == set(LABELLED_TASKS)


@pytest.mark.parametrize("name", ["sentiment", "classification"])
def test_both_read_the_same_records(name: str) -> None:
    task = task_named(name)
    assert task.name == name
    assert task.columns(FIELDS) == ["review", "stars"]
    example = task.example({"review": "good", "stars": 1, "id": 7}, FIELDS, "a.csv:2")
    assert (example.text, example.label) == ("good", "1")
    assert isinstance(task, (Classification, Sentiment))


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("positive", "positive"),
        (" a b ", " a b "),
        ("好评", "好评"),
        ("非常　好", "非常　好"),
        ("très\u00a0bon", "très\u00a0bon"),
        (1, "1"),
        (-2, "-2"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (True, "true"),
        (False, "false"),
        (None, ""),
        ("", ""),
        (" \t", ""),
        (math.nan, ""),
    ],
)
def test_the_text_form_of_a_label(value: Any, label: str) -> None:
    assert label_of(value) == label


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([["a"]], "a list"),
        ({"a": 1}, "a dict"),
        ("a\nb", "line ends"),
        ("a\tb", "control"),
        ("a\u2028b", "line ends"),
        ("\ud83d", "control"),
        ("word " * 100, "500 characters"),
        (10**400, "a number"),
        (math.inf, "a number"),
    ],
)
def test_what_is_no_label_is_refused(value: Any, kind: str) -> None:
    with pytest.raises(DataError, match=r"data\.not-a-label") as caught:
        label_of(value)
    assert caught.value.where == "a.csv:2"
    assert kind in caught.value.what


@pytest.mark.parametrize(
    ("value", "setting", "label"),
    [
        (["b", "a", "b", None, " "], {}, ("a", "b")),
        ([], {}, ()),
        ([3, 1.0, True], {}, ("1", "3", "true")),
        ('["b", "a"]', {}, ("a", "b")),
        ("[]", {}, ()),
        ("[b, a]", {}, "[b, a]"),
        ('["b", "a"]', {"multi_label": False}, '["b", "a"]'),
        ("a;b", {}, "a;b"),
        ("a", {"multi_label": True}, ("a",)),
        ("", {"multi_label": True}, ""),
        (" b; a;;b ", {"label_separator": ";", "multi_label": True}, ("a", "b")),
        ("", {"label_separator": ";", "multi_label": True}, ()),
        (None, {"label_separator": ";", "multi_label": True}, ()),
        (2, {"label_separator": ";", "multi_label": True}, ("2",)),
    ],
)
def test_a_list_is_all_labels_of_a_record(value: Any, setting: dict[str, Any], label: Label) -> None:
    """A text is one label unless it is JSON's list or the recipe names what divides it; what is empty then is no label at all."""
    assert label_of(value, **setting) == label


def test_a_run_that_tells_one_label_refuses_a_list() -> None:
    with pytest.raises(DataError, match=r"data\.several-labels") as caught:
        label_of(["a", "b"], multi_label=False)
    assert (caught.value.where, "multi_label = true" in caught.value.mend) == ("a.csv:2", True)


def test_a_missing_column_is_named_and_a_table_asked_for() -> None:
    with pytest.raises(DataError, match=r"data\.no-column") as caught:
        Classification().example({"review": "good", "file": "a.txt"}, FIELDS, "a.txt:1")
    assert "`stars`" in caught.value.what
    assert "table" in caught.value.mend
    assert "review, file" in caught.value.mend


def test_scores_by_hand() -> None:
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.0, 1.0, 0.0]])
    scores = Classification().label_metrics(probabilities, np.array([0, 1, 0, 1]))
    assert scores["accuracy"] == 0.75
    assert scores["loss"] == pytest.approx(-(math.log(0.5) + math.log(0.8) + math.log(0.2)) / 4)


def test_a_certain_mistake_costs_much_and_not_infinitely_much() -> None:
    scores = Classification().label_metrics(np.array([[1.0, 0.0]], np.float32), np.array([1]))
    assert scores["accuracy"] == 0
    assert 500 < scores["loss"] < math.inf


@given(st.integers(2, 6), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_scores_do_not_depend_on_the_order(labels: int, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(labels), count)
    right = random.integers(labels, size=count)
    order = random.permutation(count)
    scores = Classification().label_metrics(probabilities, right)
    again = Classification().label_metrics(probabilities[order], right[order])
    assert again["accuracy"] == scores["accuracy"]
    assert again["loss"] == pytest.approx(scores["loss"])
    flat = Classification().label_metrics(np.full((count, labels), 1 / labels), right)
    assert flat["loss"] == pytest.approx(math.log(labels))


def test_each_output_has_its_own_scores() -> None:
    with pytest.raises(NotImplementedError):
        task_named("sentiment").metrics(1.0, 1, 1)
    with pytest.raises(NotImplementedError):
        task_named("generation").label_metrics(np.ones((1, 1)), np.zeros(1, np.int64))
