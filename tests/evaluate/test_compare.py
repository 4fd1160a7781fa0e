"""Two models on the same records: whether a difference is more than luck, and slices of their scores."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.evaluate.compare import compared
from shuyuan.evaluate.slices import MOST_LABELS, by_label, by_owner, described

SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30)


@settings(deadline=None, max_examples=15)
@given(SCORES)
def test_the_other_way_round_the_difference_is_the_opposite(scores: list[tuple[float, float]]) -> None:
    ours, theirs = zip(*scores, strict=True)
    found, other = compared(ours, theirs), compared(theirs, ours)
    assert found["difference"] == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert other["difference"] == pytest.approx(-found["difference"])
    assert other["p_value"] == pytest.approx(found["p_value"], abs=0.02)
    assert found["difference_low"] - 1e-9 <= found["difference"] <= found["difference_high"] + 1e-9
    assert 0 < found["p_value"] <= 1
    assert compared(ours, ours)["p_value"] == 1


def test_of_right_and_wrong_it_is_mcnemars_test() -> None:
    ours, theirs = [1.0] * 9 + [0.0] * 3, [0.0] * 8 + [1.0, 0.0, 1.0, 1.0]
    # 8 for us, 2 for them: twice the chance of 8 heads or more of 10 coins
    assert compared(ours, theirs)["p_value"] == pytest.approx(2 * (45 + 10 + 1) / 1024)


def test_of_other_scores_it_is_what_all_swaps_give() -> None:
    apart = [0.9, 0.4, -0.1, 0.3, 0.25, -0.2, 0.6]
    sums = [
        abs(sum(sign * each for sign, each in zip(signs, apart, strict=True)))
        for signs in product((1, -1), repeat=7)
    ]
    exact = float(np.mean([total >= abs(sum(apart)) - 1e-12 for total in sums]))
    assert compared(apart, [0.0] * 7)["p_value"] == pytest.approx(exact, abs=0.01)
    assert compared(apart, [0.0] * 7) == compared(apart, [0.0] * 7), "the same each time"


def test_owners_are_grouped_by_how_many_records_they_have_and_never_named() -> None:
    owners = ["ann"] * 6 + ["bob"] * 3 + ["eve"] * 3 + list("uvwxyz")
    values = [1.0] * 6 + [0.5] * 6 + [0.0] * 6
    found = by_owner(owners, values)
    assert [(each["slice"], each["from"], each["to"], each["records"], each["mean"]) for each in found] == [
        ("few", 1, 1, 6, 0.0), ("some", 3, 3, 6, 0.5), ("many", 6, 6, 6, 1.0),
    ]  # fmt: skip
    assert not any(name in str(found) for name in ("ann", "bob", "eve"))
    assert described(found[0]) == "few: owners of 1 to 1 records"
    assert by_owner(list("abc"), [1.0, 2.0, 3.0]) == [] == by_owner([], [])


def test_labels_come_by_how_frequent_they_are() -> None:
    """A record stands in the slice of each label that it has."""
    found = by_label([["b"], ["a"], ["a"]], [0.0, 1.0, 0.0])
    several = by_label([["a", "b"], ["b"], []], [1.0, 0.0, 0.5])
    assert [(each["slice"], each["records"], each["mean"]) for each in several] == [
        ("b", 2, 0.5),
        ("a", 1, 1),
    ]
    assert [(each["slice"], each["records"], each["mean"]) for each in found] == [
        ("a", 2, 0.5),
        ("b", 1, 0.0),
    ]
    assert described(found[1]) == "label b"
    assert len(by_label([[str(n)] for n in range(MOST_LABELS + 9)], [1.0] * (MOST_LABELS + 9))) == MOST_LABELS
