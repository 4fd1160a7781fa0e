"""The guarantee in words: never stronger than it is."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pytest

from shuyuan import recipe as recipes
from shuyuan.privacy import Mechanism
from shuyuan.privacy.data_sets import Together
from shuyuan.privacy.ledger import ALLOWED
from shuyuan.recipe import Recipe
from shuyuan.report import guarantee
from shuyuan.report.guarantee import _times, sentences, title
from shuyuan.report.wording import upper


def private(**changes: Any) -> Recipe:
    mechanism = Mechanism(700, 64, 100, 1.1, 1.0, "joint", 1.4286e-6, "owner")
    table = {"data": {"source": "stdlib"}, "privacy": {"epsilon": 3.0, **changes}}
    return recipes.from_table(table).replace(resolved={"privacy": asdict(mechanism)})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (math.inf, "∞"),
        (math.nan, "∞"),
        (0.537153, "0.538"),
        (2.0, "2"),
        (7.994, "8"),
        (1e-5, "10⁻⁵"),
        (1.4286e-6, "1.43 × 10⁻⁶"),
        (123.4, "124"),
    ],
)
def test_bounds_are_rounded_up(value: float, text: str) -> None:
    assert upper(value) == text


@pytest.mark.parametrize(("epsilon", "text"), [(0.1, "1.11"), (3.0, "21"), (8.0, "2,981"), (25.0, "10^11")])
def test_how_many_times_is_rounded_up(epsilon: float, text: str) -> None:
    assert _times(epsilon) == text


def test_two_sentences_in_each_language() -> None:
    recipe = private()
    said = sentences(recipe)
    assert len(said["en"]) == len(said["zh"]) == 2
    assert "δ = 1.43 × 10⁻⁶" in said["en"][0] and "δ = 1.43 × 10⁻⁶" in said["zh"][0]
    assert not any(letter.isascii() and letter.isalpha() for letter in said["zh"][0].replace("ε", ""))
    assert title(recipe).startswith("Private: ε = ")


def test_what_is_not_covered_is_said() -> None:
    said = sentences(private(allow=["tokenizer"], insecure_seed=3))
    assert "Not covered" in said["en"][2] and "tokenizer" in said["zh"][2]
    assert "no protection at all" in said["en"][3] and "没有任何保护" in said["zh"][3]


def test_without_privacy_the_plain_truth() -> None:
    recipe = recipes.from_table({"data": {"source": "stdlib"}})
    assert title(recipe) == "Not private"
    assert "not bounded" in sentences(recipe)["en"][0] and "没有上限" in sentences(recipe)["zh"][0]
    assert (
        title(recipes.from_table({"data": {"source": "stdlib"}, "privacy": {"epsilon": 3.0}}))
        == "To be private"
    )


def together(**changes: Any) -> Together:
    facts = {
        "id": "patients-1a2b", "unit": "owner", "epsilon": 5.4321, "delta": 1.2e-6, "runs": 3, "unprotected": 0, "uncovered": [],
    }  # fmt: skip
    return Together(**facts | changes)


def test_other_runs_on_the_same_records_are_told_with_the_sum() -> None:
    said = sentences(private(), together())
    assert len(said["en"]) == len(said["zh"]) == 3
    assert "3 runs" in said["en"][2] and "ε = 5.44, δ = 1.2 × 10⁻⁶" in said["en"][2]
    assert "3 次运行" in said["zh"][2] and "ε = 5.44, δ = 1.2 × 10⁻⁶" in said["zh"][2]
    assert "patients" not in str(said), "the name of a data set may tell what it is"
    assert sentences(private(), together(runs=1)) == sentences(private())
    assert "∞" in sentences(private(), together(epsilon=math.inf))["en"][2]
    assert "had spent nothing" in sentences(private(), together(unit=None, epsilon=0.0, delta=0.0))["en"][2]


def test_other_runs_without_any_guarantee_are_told() -> None:
    uncovered = ["training", "tokenizer", "unit", "id"]
    said = sentences(private(), together(unprotected=2, uncovered=uncovered))
    english, chinese = " ".join(said["en"][3:]), "".join(said["zh"][3:])
    assert "2 without privacy" in english and "not bounded" in english and "2 次运行没有差分隐私" in chinese
    assert "tokenizer" in english and "tokenizer" in chinese
    assert "another data.id" in english and "另一个 data.id" in chinese
    assert len(sentences(private(), together(runs=1, uncovered=["id"]))["en"]) == 4
    assert "another unit" in english and "另一种单位" in chinese


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_every_leak_is_explained_in_both_languages(name: str) -> None:
    said = sentences(private(allow=[name]))
    assert ALLOWED[name] in said["en"][2] and said["zh"][2].endswith(guarantee._LEAKS_ZH[name])


def test_scores_that_are_given_away_are_not_said_to_stay_inside() -> None:
    assert "scores" in sentences(private())["en"][1] and "分数" in sentences(private())["zh"][1]
    said = sentences(private(allow=["scores"]))
    assert "scores" not in said["en"][1] and "分数" not in said["zh"][1]
