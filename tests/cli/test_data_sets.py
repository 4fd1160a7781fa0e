"""Several runs on the same records: each output says what all of them come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.runs import shuyuan, text_of, write_recipe

TEXTS = ("report.html", "report-internal.html", "model/README.md")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without privacy and two private ones, on one table."""
    folder = tmp_path_factory.mktemp("several")
    rows = [{"text": line, "who": number % 90} for number, line in enumerate(text_of(300).splitlines())]
    (folder / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, privacy in (
        ("open", {}),
        ("one", {"privacy": "epsilon = 3.0"}),
        ("two", {"privacy": "epsilon = 3.0"}),
    ):
        recipe = write_recipe(folder, steps=3, **privacy)
        text = recipe.read_text()
        recipe.write_text(
            text.replace('source = "notes.txt"\nrecord = "line"', 'source = "notes.jsonl"\nowner = "who"')
        )
        outcome = shuyuan("run", recipe, "--out", folder / name, "--json")
        assert outcome.status == 0, outcome.stderr
        assert ("Other runs on the data set" in outcome.stderr) == (name != "open")
    return folder


def info(run: Path) -> dict[str, Any]:
    return shuyuan("info", run, "--json").json


def test_info_shows_the_sum_beside_the_runs_own(runs: Path) -> None:
    one, two = (info(runs / name) for name in ("one", "two"))
    assert one["data_set"] == two["data_set"] == info(runs / "open")["data_set"]
    data_set = two["data_set"]
    assert (data_set["runs"], data_set["uncovered"], data_set["unit"]) == (3, ["training"], "owner")
    assert data_set["epsilon"] > 1.1 * two["privacy"]["epsilon"]
    assert data_set["delta"] == two["privacy"]["delta"]
    shown = shuyuan("info", runs / "two").stdout
    assert data_set["id"] in shown and "over 3 runs; not covered: training" in " ".join(shown.split())
    for name in ("open", "one", "two"):
        verified = shuyuan("verify", runs / name, "--json").json
        assert verified["ok"] and (verified["epsilon_recomputed"] is None) == (name == "open")


def test_what_is_released_tells_of_the_other_runs(runs: Path) -> None:
    for file in TEXTS:
        text = (runs / "two" / file).read_text(encoding="utf-8")
        assert "held 3 runs" in text and "共记有 3 次运行" in text
        assert "1 without privacy" in text and "1 次运行没有差分隐私" in text
    assert "held 2 runs" in (runs / "one/model/README.md").read_text(encoding="utf-8"), "as it was then"
    assert shuyuan("report", runs / "one").status == 0
    assert "held 3 runs" in (runs / "one/report.html").read_text(encoding="utf-8")


def test_the_id_is_filled_in_and_the_same_recipe_goes_on(runs: Path) -> None:
    name = info(runs / "two")["data_set"]["id"]
    assert name.startswith("notes-") and f'id = "{name}"' in (runs / "two/recipe.toml").read_text()
    assert name not in (runs / "two/model/README.md").read_text(encoding="utf-8"), (
        "it may tell what the records are"
    )
    assert shuyuan("run", runs / "recipe.toml", "--out", runs / "two").status == 0
    refused = shuyuan("run", runs / "recipe.toml", "--out", runs / "two", "--set", "data.id=new", "--json")
    assert (refused.status, refused.json["error"]["code"]) == (1, "run.other-recipe")
    assert info(runs / "two")["data_set"]["runs"] == 3
