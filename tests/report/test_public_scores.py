"""Scores of a private run on its public page: only where the recipe accepts the leak by name, and only the model's."""

from __future__ import annotations

import tomllib
from dataclasses import asdict

import pytest

from shuyuan import recipe as recipes
from shuyuan.errors import RecipeError
from shuyuan.privacy import Mechanism
from shuyuan.report import write_report
from shuyuan.report.page import INTERNAL_FILE

from .conftest import RECIPE, SCORES, MakeRun


def private(allow: list[str], vault: bool) -> str:
    mechanism = Mechanism(700, 64, 100, 1.1, 1.0, "joint", 1.4286e-6, "owner")
    table = tomllib.loads(RECIPE.format(extra=""))
    table["privacy"] = {"epsilon": 3.0, "allow": allow}
    table["resolved"]["privacy"] = asdict(mechanism)
    return recipes.check(table | ({"vault": {"key": "env:KEY"}} if vault else {}), where="test").as_toml()


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("allow", [[], ["scores"], ["tokenizer"]])
def test_scores_are_public_by_name_alone(make_run: MakeRun, sealed: bool, allow: list[str]) -> None:
    original = SCORES["generation"]["original"] | {
        "test.majority_accuracy": 0.8762,
        "test.baseline_memory_chrf": 55.4371,
    }
    scores = {"scores.json": {"generation": {"original": original}}}
    run, store = make_run(sealed=sealed, recipe=private(allow, sealed), changed=scores)
    page = write_report(run, store, run.recipe()).read_text(encoding="utf-8")
    assert ("3.217" in page) == ("24.95" in page) == ("scores" in allow)
    assert "memory_chrf" not in page and "55.4" not in page
    for internal in (
        "4.432",
        "bigram",
        "87.6%",
        "4,210",
        "9,876,543",
        "def main(",
        "12 records were skipped",
    ):
        assert internal not in page
        assert internal in store.read(INTERNAL_FILE).decode()
    assert ("The model's scores on held-out units" in page.replace("&#39;", "'")) == ("scores" in allow)


def test_the_whole_page_of_a_private_run_is_never_public() -> None:
    table = {"data": {"source": "stdlib"}, "privacy": {"epsilon": 3.0, "allow": ["scores"]}}
    with pytest.raises(RecipeError, match=r"report\.open"):
        recipes.from_table(table | {"report": {"open": True}})
