"""Which variant is picked: the smallest that is good enough, the best that is small enough, or a refusal with the nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shuyuan.compress.target import Target
from shuyuan.errors import RecipeError, RunError
from tests.runs import shuyuan as command
from tests.support.families import FAMILIES

FOUND: dict[str, dict[str, Any]] = {
    "original": {"bytes": 1000, "loss": 2.0},
    "int8": {"bytes": 270, "loss": 2.001},
    "int4": {"bytes": 160, "loss": 2.015},
    "pruned-50": {"bytes": 530, "loss": 2.05},
    "pruned-50-int4": {"bytes": 120, "loss": 2.09},
    "unmeasured": {"bytes": 1, "loss": None},
}


@pytest.mark.parametrize(
    ("text", "picked"),
    [
        ("loss +1%", "int4"),
        ("loss +0.1 %", "int8"),
        ("loss + 5%", "pruned-50-int4"),
        ("loss +0%", "original"),
        ("size 30%", "int8"),
        ("size 25%", "int4"),
        ("size 12%", "pruned-50-int4"),
        ("size 100%", "original"),
    ],
)
def test_the_best_that_reaches_it_is_picked(text: str, picked: str) -> None:
    assert Target.parse(text).pick(FOUND) == picked


def test_where_none_reaches_it_the_nearest_is_named() -> None:
    with pytest.raises(RunError, match=r"size of 5\.0%; the nearest is pruned-50-int4, 12\.0%") as refused:
        Target.parse("size 5%").pick(FOUND)
    assert refused.value.code == "compress.no-variant"


@pytest.mark.parametrize(
    "text", ["", "loss", "loss 1%", "loss -1%", "size +1%", "size 0%", "size 1.2.3%", "speed 2%", "loss +1"]
)
def test_what_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="--target"):
        Target.parse(text)


def test_the_command_makes_the_usual_ones_and_picks(tmp_path: Path) -> None:
    FAMILIES["transformer"].run(tmp_path, "generation")
    told = command("compress", tmp_path / "run", "--target", "size 40%", "--json").json
    assert told["picked"] in told["variants"] and told["picked"] != "original"
    assert {"int8", "int4", "pruned-50-int8", "pruned-50-int4"} <= told["variants"].keys()
    for name, facts in told["variants"].items():
        assert 0 <= facts["agreement"] <= 1, name
    assert told["variants"]["original"]["agreement"] == 1.0
    assert told["variants"]["int8"]["agreement"] >= told["variants"]["pruned-50-int4"]["agreement"] - 0.2
    text = command("compress", tmp_path / "run", "--target", "loss +100%").stdout
    assert "Picked: " in text and max(map(len, text.splitlines())) <= 80
    assert command("compress", tmp_path / "run", "--target", "size 1%").status == 1
    command("report", tmp_path / "run")
    page = (tmp_path / "run/report.html").read_text()
    assert "Loss of the variants over their size" in page and "Says the same" in page
