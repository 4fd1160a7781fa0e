"""A run that starts from the model of another run: its weights, its shape and its tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from shuyuan import recipe as recipes
from tests.runs import shuyuan, write_recipe

KEY = "correct horse battery staple"


def continued(folder: Path, start: Path, *, steps: int = 1) -> Path:
    """A recipe that says nothing of the shape: it is the given model's."""
    file = folder / "more.toml"
    file.write_text(
        f'[data]\nsource = "notes.txt"\nrecord = "line"\nvalidation = 0.2\n'
        f'[model]\nfrom = "{start}"\ncontext = 32\n'
        f'[train]\nbudget = "{steps} steps"\nbatch_size = 4\nprecision = "fp32"\nlearning_rate = 1e-9\n'
    )
    return file


@pytest.mark.parametrize("sealed", [False, True])
def test_it_goes_on_where_the_other_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    monkeypatch.setenv("SHUYUAN_TEST_KEY", KEY)
    first = write_recipe(tmp_path, sealed=sealed, steps=30, tokenizer='kind = "char"')
    before = shuyuan("run", first, "--out", tmp_path / "first", "--json").json
    more = continued(tmp_path, tmp_path / "first")
    assert shuyuan("plan", more, "--json").json["parameters"] == before["parameters"]
    after = shuyuan("run", more, "--out", tmp_path / "second", "--json")
    assert after.status == 0, after.stderr
    assert after.json["parameters"] == before["parameters"]
    assert after.json["loss"]["validation"] == pytest.approx(before["loss"]["validation"], abs=1e-3)
    assert recipes.load(tmp_path / "second/recipe.toml").tokenizer.from_ == str(tmp_path / "first")


def test_a_run_without_a_model_is_refused(tmp_path: Path) -> None:
    first = write_recipe(tmp_path)
    assert shuyuan("prepare", first, "--out", tmp_path / "first").status == 0
    outcome = shuyuan("run", continued(tmp_path, tmp_path / "first"), "--out", tmp_path / "second")
    assert outcome.status == 1
    assert "shuyuan train" in outcome.stderr
    assert not (tmp_path / "second").exists()


def test_another_tokenizer_can_be_asked_for(tmp_path: Path) -> None:
    table = {"data": {"source": "stdlib"}, "model": {"from": str(tmp_path)}}
    assert recipes.from_table(table).tokenizer.from_ == str(tmp_path)
    assert recipes.from_table(table | {"tokenizer": {"kind": "byte"}}).tokenizer.from_ is None
