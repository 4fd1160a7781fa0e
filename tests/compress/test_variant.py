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
    assert asked(shrink=[0.25, 0.5], quantize="int8") == [
        "int8",
        "shrunk-25",
        "shrunk-25-int8",
        "shrunk-50",
        "shrunk-50-int8",
    ]
    assert Variant(8, 0.07).name == "pruned-7-int8"


def test_a_method_that_is_asked_for_stands_in_the_name() -> None:
    assert asked(quantize=["int8", "int4"], rounding=["auto", "nearest"]) == ["int8", "int4", "int4-nearest"]
    assert asked(prune=0.5, pruning=["wanda", "magnitude"], quantize="int4", rounding="gptq") == [
        "int4-gptq", "pruned-50-wanda", "pruned-50-wanda-int4-gptq", "pruned-50-magnitude", "pruned-50-magnitude-int4-gptq",
    ]  # fmt: skip


def test_what_is_trained_again_says_so_in_its_name() -> None:
    assert asked(prune=0.5, quantize="int8", recover="9 steps") == [
        "int8",
        "pruned-50-recovered",
        "pruned-50-recovered-int8",
    ]
    assert asked(prune=0.5, pruning="gradual", recover="9 steps") == ["pruned-50-gradual-recovered"]


def test_auto_is_the_best_that_there_is() -> None:
    both = Variant(4, 0.5)
    assert both.gains_by_records() and not both.needs_records()
    assert both.with_records(True) == Variant(4, 0.5, rounding="gptq", pruning="sparsegpt")
    assert both.with_records(False) == Variant(4, 0.5, rounding="nearest", pruning="magnitude")
    assert not Variant(8).gains_by_records() and not Variant(4, rounding="nearest").gains_by_records()
    assert Variant(32, 0.5, pruning="wanda").needs_records()
    own = Variant(4, 0.5, rounding="nearest", pruning="wanda")
    assert own.with_records(True) == own.with_records(False) == own


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
        ({"quantize": "int8", "rounding": "gptq"}, "compress.rounding"),
        ({"quantize": "int4", "pruning": "wanda"}, "compress.pruning"),
        ({"quantize": "int4", "rounding": []}, "compress.rounding"),
        ({"quantize": "int4", "rounding": ["gptq", "gptq"]}, "compress.rounding"),
        ({"prune": 0.5, "pruning": "smallest"}, "compress.pruning"),
        ({"prune": 0.5, "pruning": "gradual"}, "compress.pruning"),
        ({"shrink": 1.0}, "compress.shrink"),
        ({"shrink": [0.5, 0.5]}, "compress.shrink"),
        ({"prune": 0.5, "recover": "2 min"}, "compress.recover"),
        ({"prune": 0.5, "recover": "soon"}, "compress.recover"),
        ({"quantize": "int8", "recover": "5 steps"}, "compress.recover"),
        ({"quantise": "int8"}, "compress.quantise"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(table: dict[str, Any], key: str) -> None:
    with pytest.raises(RecipeError) as error:
        asked(**table)
    assert key in str(error.value)
