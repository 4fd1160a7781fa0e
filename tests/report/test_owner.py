"""Which runs hold records of an owner: none is passed over, and what cannot be told is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from shuyuan.data import prepare
from shuyuan.errors import RunError
from shuyuan.progress import Progress
from shuyuan.recipe import from_table
from shuyuan.report import owner_in_runs
from shuyuan.runs import Run
from shuyuan.vault import open_store

from ..runs import shuyuan, text_of

KEY = "correct horse battery staple, and more than that"
Made = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open run, a sealed one, one without owners, and one that starts from the open one; each prepared."""
    folder = tmp_path_factory.mktemp("owners")
    lines = text_of(400).splitlines()
    rows = [{"text": line, "who": number % 40} for number, line in enumerate(lines)]
    (folder / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "others.jsonl").write_text(
        "\n".join(json.dumps(row | {"who": row["who"] + 100}) for row in rows)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHUYUAN_TEST_KEY", KEY)
        make(folder, "open")
        make(folder, "deep/sealed", vault={"key": "env:SHUYUAN_TEST_KEY"}, privacy={"epsilon": 3.0})
        make(folder, "without", owner=None)
        make(folder, "child", source="others.jsonl", model={"from": str(folder / "runs/open")})
    (folder / "runs/no run").mkdir()
    (folder / "runs/open/model").mkdir()
    return folder / "runs"


def make(
    folder: Path, name: str, source: str = "notes.jsonl", owner: str | None = "who", **tables: Any
) -> None:
    data = {"source": str(folder / source), "validation": 0.2, "duplicates": "keep"} | (
        {"owner": owner} if owner else {}
    )
    table: dict[str, Any] = {"data": data, "model": {"context": 32}, **tables}
    recipe = from_table({"tokenizer": {"kind": "byte"}, **table})
    path = folder / "runs" / name
    path.mkdir(parents=True)
    with open_store(Run(path), recipe.vault.key if recipe.vault else None, create=True) as store:
        store.write_open("recipe.toml", recipe.as_toml().encode())
        prepare(recipe, store, Progress())


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUYUAN_TEST_KEY", KEY)


def found(owner: str, *places: Path, key: str | None = None) -> dict[str, dict[str, Any]]:
    return {Path(row["run"]).name: row for row in owner_in_runs(owner, places, key)["runs"]}


def test_every_owner_is_found_where_it_is_and_nowhere_else(runs: Path) -> None:
    splits = {"train": 0, "validation": 0}
    for owner in range(40):
        ((split, count),) = found(str(owner), runs / "open")["open"]["splits"].items()
        assert count == 10
        splits[split] += count
    assert splits["train"] + splits["validation"] == 400 and splits["validation"] > 0
    rows = found("7", runs)
    assert rows.keys() == {"open", "sealed", "without", "child"}
    assert rows["open"]["contains"] is rows["sealed"]["contains"] is True
    assert rows["open"]["splits"] == rows["sealed"]["splits"]
    assert (rows["child"]["contains"], rows["child"]["splits"]) == (False, {})
    for stranger in ("40", "", "1 ", "01", "老师", "record:1"):
        assert found(stranger, runs / "open")["open"]["contains"] is False


def test_it_is_told_what_was_promised(runs: Path) -> None:
    rows = found("7", runs)
    assert (rows["open"]["private"], rows["open"]["epsilon"]) == (False, None)
    assert (rows["sealed"]["private"], rows["sealed"]["epsilon"]) == (True, 0.0)  # no step is made yet


def test_the_run_behind_a_run_is_looked_at_too(runs: Path, tmp_path: Path) -> None:
    """A model that goes on from another has learned from its records."""
    rows = found("7", runs / "child")
    assert rows["child"]["starts_from"] == str(runs / "open")
    assert rows["open"]["contains"] is True
    copy = tmp_path / "copy"
    shutil.copytree(runs / "child", copy)
    recipe = copy / "recipe.toml"
    recipe.write_text(recipe.read_text().replace(f'from = "{runs}/open"', f'from = "{runs}/open/model"'))
    assert found("7", copy)["open"]["contains"] is True


def test_what_cannot_be_told_is_named_with_the_reason(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHUYUAN_TEST_KEY")
    shutil.copytree(runs, tmp_path / "runs")
    (tmp_path / "runs/open/recipe.toml").unlink()
    (tmp_path / "runs/open").rename(tmp_path / "runs/headless")
    shard = next((tmp_path / "runs/child/data").glob("train-*.shard"))
    shard.write_bytes(shard.read_bytes()[:-1])
    rows = found("7", tmp_path / "runs", tmp_path / "gone")
    codes = {
        "without": "data.no-owners", "sealed": "vault.", "headless": "run.not-a-run", "gone": "run.not-a-run",
        "child": "data.bad-shard",
    }  # fmt: skip
    for name, code in codes.items():
        assert rows[name]["contains"] is None and code in rows[name]["reason"], name
    assert rows.keys() == {*codes, "open"}  # which child starts from


def test_one_key_for_all_opens_the_sealed_and_leaves_the_open_alone(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHUYUAN_TEST_KEY")
    monkeypatch.setenv("ANOTHER", KEY)
    rows = found("7", runs, key="env:ANOTHER")
    assert rows["sealed"]["contains"] is True and rows["open"]["contains"] is True


def test_no_run_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        owner_in_runs("7", [tmp_path])
    assert caught.value.code == "run.no-runs"


def test_the_command(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = shuyuan("info", "--owner", "7", runs / "open", runs / "deep", "--json")
    assert outcome.status == 0
    assert outcome.json["owner"] == "7" and len(outcome.json["runs"]) == 2
    assert all(
        row.keys() >= {"run", "contains", "splits", "private", "epsilon"} for row in outcome.json["runs"]
    )
    shown = shuyuan("info", "--owner", "7", runs)  # one of them has no owners: no answer is no zero
    assert shown.status == 1
    assert "10 train" in shown.stdout and "unknown" in shown.stdout and "none" in shown.stdout
    monkeypatch.chdir(runs.parent)
    assert len(shuyuan("info", "--owner", "7", "--json").json["runs"]) == 4
    assert shuyuan("info", runs / "open", runs / "child").status == 2
