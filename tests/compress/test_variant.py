"""Names of variants, and what a recipe asks for."""

from __future__ import annotations

from typing import Any

import pytest

from shuyuan import recipe
from shuyuan.compress import Variant, wanted
from shuyuan.errors import RecipeError


def asked(**compress: Any) -> list[str]:
    table = {"data": {"source": "stdlib"}, "compress": compress}
    return [variant.name for variant in wanted(recipe.check(table, where="recipe").compress)]


def test_each_is_made_by_itself_and_together() -> None:
    assert wanted(None) == []
    assert asked(quantize="int8") == ["int8"]
    assert asked(prune=0.5) == ["pruned-50"]
    assert asked(quantize="int4", prune=0.25) == ["int4", "pruned-25", "pruned-25-int4"]
    assert asked(quantize=["int8", "int4"], prune=[0.3, 0.7]) == [
        "int8", "int4", "pruned-30", "pruned-30-int8", "pruned-30-int4", "pruned-70", "pruned-70-int8", "pruned-70-int4",
    ]  # fmt: skip
    assert Variant(8, 0.07).name == "pruned-7-int8"


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({}, "compress.quantize"),
        ({"prune": 0.0}, "compress.prune"),
        ({"prune": 1.0}, "compress.prune"),
        ({"prune": 1}, "compress.prune"),
        ({"prune": -0.5}, "compress.prune"),
        ({"prune": float("nan")}, "compress.prune"),
        ({"prune": 0.123456}, "compress.prune"),
        ({"prune": [0.5, 0.5]}, "compress.prune"),
        ({"prune": [0.5, 2.0]}, "compress.prune"),
        ({"quantize": ["int8", "int8"]}, "compress.quantize"),
        ({"quantize": "int3"}, "compress.quantize"),
        ({"quantise": "int8"}, "compress.quantise"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(table: dict[str, Any], key: str) -> None:
    with pytest.raises(RecipeError) as error:
        asked(**table)
    assert key in str(error.value)
