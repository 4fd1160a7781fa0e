"""What a classifier got right and wrong: the numbers are those of scikit-learn, and of the definition of calibration."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from shuyuan.tasks import Classification
from shuyuan.tasks.confusion import BINS, MOST_SHOWN, outcome

OUTCOMES = st.tuples(st.integers(2, 7), st.integers(1, 40), st.integers(0, 2**32 - 1))


def drawn(labels: int, count: int, seed: int) -> tuple[Any, Any]:
    """Probabilities that favour a few labels, and right labels of which some may be missing."""
    random = np.random.default_rng(seed)
    return random.dirichlet(np.full(labels, 0.4), count), random.integers(
        random.integers(1, labels + 1), size=count
    )


@settings(max_examples=60, deadline=None)
@given(OUTCOMES)
def test_the_numbers_are_those_of_scikit_learn(made: tuple[int, int, int]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    probabilities, right = drawn(*made)
    found, likeliest, every = outcome(probabilities, right), probabilities.argmax(1), range(made[0])
    told = found.to_json([str(number) for number in every])
    assert told["confusion"] == metrics.confusion_matrix(right, likeliest, labels=every).tolist()
    rows = metrics.precision_recall_fscore_support(right, likeliest, labels=every, zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "records"), rows, strict=True):
        assert [each[key] for each in told["classes"]] == pytest.approx(values.tolist())
    scores = Classification().label_metrics(probabilities, right)
    macro = metrics.precision_recall_fscore_support(right, likeliest, average="macro", zero_division=0)
    assert [scores[f"macro_{key}"] for key in ("precision", "recall", "f1")] == pytest.approx(macro[:3])
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(right, likeliest))


@settings(max_examples=60, deadline=None)
@given(OUTCOMES)
def test_calibration_follows_its_definition(made: tuple[int, int, int]) -> None:
    probabilities, right = drawn(*made)
    bins = outcome(probabilities, right).bins()
    assert len(bins) == BINS
    error = 0.0
    for number, each in enumerate(bins):
        inside = [
            (max(row), row.argmax() == label)
            for row, label in zip(probabilities, right, strict=True)
            if number / BINS < max(row) <= (number + 1) / BINS
        ]
        assert each["records"] == len(inside)
        if inside:
            sure, hits = np.mean([row for row, _ in inside]), np.mean([hit for _, hit in inside])
            assert (each["confidence"], each["accuracy"]) == pytest.approx((sure, hits))
            error += len(inside) / len(right) * abs(sure - hits)
        else:
            assert each["confidence"] is each["accuracy"] is None
    scores = Classification().label_metrics(probabilities, right)
    assert scores["calibration_error"] == pytest.approx(error)


@settings(max_examples=40, deadline=None)
@given(OUTCOMES)
def test_the_interval_is_scipys_and_holds_the_accuracy(made: tuple[int, int, int]) -> None:
    probabilities, right = drawn(*made)
    scores = Classification().label_metrics(probabilities, right)
    hits = int((probabilities.argmax(1) == right).sum())
    theirs = binomtest(hits, len(right)).proportion_ci(0.95, method="wilson")
    assert (scores["accuracy_low"], scores["accuracy_high"]) == pytest.approx(tuple(theirs), abs=1e-9)
    assert 0 <= scores["accuracy_low"] <= scores["accuracy"] <= scores["accuracy_high"] <= 1
    assert scores["accuracy_high"] - scores["accuracy_low"] > 0.05


def test_the_interval_by_hand() -> None:
    probabilities = np.tile([[0.9, 0.1]], (100, 1))
    scores = Classification().label_metrics(probabilities, np.array([0] * 90 + [1] * 10))
    assert scores["accuracy_low"] == pytest.approx(0.8256, abs=1e-4)
    assert scores["accuracy_high"] == pytest.approx(0.9448, abs=1e-4)
    assert scores["calibration_error"] == pytest.approx(0, abs=1e-12)


def test_json_can_hold_it() -> None:
    probabilities, right = drawn(4, 30, 1)
    told = Classification().label_details(probabilities, right, ["a", "b", "c", "书"])
    assert json.loads(json.dumps(told)) == told
    assert [each["label"] for each in told["classes"]] == ["a", "b", "c", "书"]


def test_the_matrix_of_very_many_labels_is_left_out() -> None:
    labels = MOST_SHOWN + 1
    probabilities = np.full((3, labels), 1 / labels)
    told = outcome(probabilities, np.arange(3)).to_json([str(number) for number in range(labels)])
    assert told["confusion"] is None
    assert len(told["classes"]) == labels


def test_a_confidence_at_an_edge_is_in_the_bin_below() -> None:
    edge = float(np.linspace(0, 1, BINS + 1)[12])
    bins = outcome(np.array([[edge, 1 - edge], [1.0, 0.0]]), np.array([0, 1])).bins()
    assert [number for number, each in enumerate(bins) if each["records"]] == [11, BINS - 1]
