"""Any number of labels a record: the numbers are those of scikit-learn, and intervals hold them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.tasks import Classification
from shuyuan.tasks.multi_label import decisions

MADE = st.tuples(st.integers(1, 6), st.integers(1, 40), st.integers(0, 2**32 - 1))


def drawn(labels: int, count: int, seed: int) -> tuple[Any, Any]:
    """Probabilities, and labels that follow them half of the time; some label may stand nowhere."""
    random = np.random.default_rng(seed)
    probabilities_NK = random.random((count, labels))
    has_NK = (random.random((count, labels)) < probabilities_NK / 2) & (random.random(labels) < 0.8)
    return probabilities_NK, has_NK.astype(np.int64)


@settings(max_examples=40, deadline=None)
@given(MADE)
def test_the_numbers_are_those_of_scikit_learn(made: tuple[int, int, int]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    probabilities, right = drawn(*made)
    told, scores = (probabilities >= 0.5).astype(int), Classification().label_metrics(probabilities, right)
    rows = [metrics.precision_recall_fscore_support(r, t, average="binary", zero_division=0)
            for r, t in zip(right.T, told.T, strict=True)]  # fmt: skip
    classes = decisions(probabilities, right).to_json([str(number) for number in range(made[0])])["classes"]
    for each, row, has in zip(classes, rows, right.T, strict=True):
        assert [each[key] for key in ("precision", "recall", "f1")] == pytest.approx(list(row[:3]))
        assert each["records"] == has.sum()
    assert scores["exact_labels"] == pytest.approx((told == right).all(1).mean())
    assert scores["hamming_loss"] == pytest.approx((told != right).mean())
    micro = metrics.precision_recall_fscore_support(
        right.ravel(), told.ravel(), average="binary", zero_division=0
    )
    assert [scores[f"micro_{key}"] for key in ("precision", "recall", "f1")] == pytest.approx(micro[:3])
    there = [row[2] for row, has, says in zip(rows, right.T, told.T, strict=True) if has.any() or says.any()]
    assert scores["macro_f1"] == pytest.approx(np.mean(there) if there else 0)
    costs = [metrics.log_loss(r, p, labels=[0, 1]) for r, p in zip(right.T, probabilities.T, strict=True)]
    assert scores["loss"] == pytest.approx(sum(costs), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(MADE)
def test_intervals_hold_what_they_are_of(made: tuple[int, int, int]) -> None:
    probabilities, right = drawn(*made)
    scores = Classification().label_metrics(probabilities, right)
    for name in ("exact_labels", "micro_f1"):
        assert scores[f"{name}_low"] - 1e-6 <= scores[name] <= scores[f"{name}_high"] + 1e-6
    assert 0 <= scores["macro_f1_low"] <= scores["macro_f1_high"] <= 1 + 1e-6
    assert 0 <= scores["calibration_error"] <= 1
    json.dumps(
        Classification().label_details(probabilities, right, [str(n) for n in range(made[0])]),
        allow_nan=False,
    )


def test_records_one_by_one() -> None:
    """F1 of a record, and how likely exactly its labels were thought."""
    found = decisions(np.array([[0.9, 0.8, 0.1], [0.2, 0.3, 0.4], [0.9, 0.1, 0.1]]),
                      np.array([[1, 0, 0], [0, 0, 0], [1, 0, 0]]))  # fmt: skip
    assert found.record_f1.tolist() == pytest.approx([2 / 3, 1, 1])
    assert found.exact.tolist() == [0, 1, 1]
    assert found.sure.tolist() == pytest.approx([0.9 * 0.2 * 0.9, 0.8 * 0.7 * 0.6, 0.9**3])


def test_a_certain_mistake_costs_much_and_not_infinitely_much() -> None:
    scores = Classification().label_metrics(np.array([[1.0, 0.0]], np.float32), np.array([[0, 1]]))
    assert scores["exact_labels"] == 0
    assert 1000 < scores["loss"] < math.inf
