"""The guarantee in words: never stronger than it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from shuyuan import recipe as recipes
from shuyuan.privacy import Mechanism
from shuyuan.recipe import Recipe
from shuyuan.report.guarantee import _times, sentences, title
from shuyuan.report.wording import upper


def private(**changes: Any) -> Recipe:
    mechanism = Mechanism(700, 64, 100, 1.1, 1.0, "joint", 1.4286e-6, "owner")
    table = {"data": {"source": "stdlib"}, "privacy": {"epsilon": 3.0, **changes}}
    return recipes.from_table(table).replace(resolved={"privacy": asdict(mechanism)})


@pytest.mark.parametrize(
    ("value", "text"),
    [
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
    assert "no protection at all" in said["en"][3]


def test_without_privacy_the_plain_truth() -> None:
    recipe = recipes.from_table({"data": {"source": "stdlib"}})
    assert title(recipe) == "Not private"
    assert "not bounded" in sentences(recipe)["en"][0] and "没有上限" in sentences(recipe)["zh"][0]
    assert (
        title(recipes.from_table({"data": {"source": "stdlib"}, "privacy": {"epsilon": 3.0}}))
        == "To be private"
    )
