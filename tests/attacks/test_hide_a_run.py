"""Whoever wants a smaller sum makes earlier runs on the same records go away: none of it lowers what the ledger says."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from shuyuan import pipeline
from shuyuan.errors import DataError, Interrupted, PrivacyError, RunError
from shuyuan.privacy.data_sets import DataSetLedger, folder, together
from shuyuan.progress import Progress
from shuyuan.recipe import Recipe, load
from shuyuan.runs import RECIPE_FILE
from shuyuan.train import train
from shuyuan.vault import OpenStore, Store
from tests.train.parts import StopAt
from tests.train.test_private import PRIVATE
from tests.train.test_training import cores, prepared, trained

__all__ = ["cores"]  # a fixture

SECURE = PRIVATE | {"privacy__insecure_seed": None, "train__budget": "12 steps"}


@pytest.fixture(autouse=True)
def _own_ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUYUAN_HOME", str(tmp_path / "home"))


def sums(run: Path) -> dict[str, Any]:
    found = together(load(run / RECIPE_FILE), OpenStore(run, writable=False))
    assert found is not None
    return found.to_json()


def interrupted(path: Path) -> tuple[Recipe, Store]:
    recipe, store = prepared(path, **SECURE)
    stop = threading.Event()
    with pytest.raises(Interrupted):
        train(recipe, store, StopAt(stop, 7), stop)
    return recipe, store


def resumed(path: Path) -> None:
    train(load(path / RECIPE_FILE), OpenStore(path), Progress(), threading.Event())


def test_deleting_and_renaming_runs_lowers_nothing(tmp_path: Path) -> None:
    trained(tmp_path / "a", **SECURE)
    alone = sums(tmp_path / "a")
    trained(tmp_path / "b", **SECURE)
    both = sums(tmp_path / "b")
    assert (alone["runs"], both["runs"]) == (1, 2) and both["epsilon"] > 1.1 * alone["epsilon"]
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "b").rename(tmp_path / "c")
    assert sums(tmp_path / "c") == both
    assert pipeline.verify(tmp_path / "c")["ok"]


def test_an_interrupted_run_counts_and_one_that_is_thrown_away_still_does(tmp_path: Path) -> None:
    interrupted(tmp_path / "a")
    begun = sums(tmp_path / "a")
    assert begun["runs"] == 1 and begun["epsilon"] > 0
    shutil.rmtree(tmp_path / "a")
    trained(tmp_path / "b", **SECURE)
    after = sums(tmp_path / "b")
    assert after["runs"] == 2 and after["epsilon"] > begun["epsilon"]


def test_a_copy_that_goes_on_neither_counts_twice_nor_hides(tmp_path: Path) -> None:
    interrupted(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    resumed(tmp_path / "a")
    once = sums(tmp_path / "a")
    resumed(tmp_path / "copy")
    assert sums(tmp_path / "copy") == sums(tmp_path / "a") == once
    assert once["runs"] == 1
    assert pipeline.verify(tmp_path / "a")["ok"] and pipeline.verify(tmp_path / "copy")["ok"]


def test_a_copy_taken_before_the_first_step_is_another_run(tmp_path: Path) -> None:
    prepared(tmp_path / "a", **SECURE)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    for name in ("a", "copy"):
        resumed(tmp_path / name)
    assert sums(tmp_path / "a")["runs"] == 2


def test_another_id_over_a_run_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path / "a")
    with (
        pytest.raises(RunError, match=r"data\.id"),
        pipeline.begin(tmp_path / "a", "train", changes=["data.id=other"]),
    ):
        pass
    file = tmp_path / "a" / RECIPE_FILE
    file.write_text(file.read_text().replace("[data]\n", '[data]\nid = "other"\n'))
    with pytest.raises(DataError, match="other settings"), pipeline.begin(tmp_path / "a", "train") as job:
        pipeline.prepare(job)
    assert not (folder() / "other.jsonl").exists()
    assert not pipeline.verify(tmp_path / "a")["ok"]


def test_a_new_run_under_another_id_tells_of_the_old_one(tmp_path: Path) -> None:
    interrupted(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    recipe, store = prepared(tmp_path / "b", **SECURE, data__id="clean")
    heard = Progress()
    train(recipe, store, heard, threading.Event())
    assert "notes-" in heard.said["privacy.other-ids"]
    assert sums(tmp_path / "b")["uncovered"] == ["id"]


def test_a_ledger_that_was_taken_away_or_cut_is_missed_and_filled_again(tmp_path: Path) -> None:
    recipe, store = prepared(tmp_path / "a", **SECURE)
    train(recipe, store, Progress(), threading.Event())
    spent, file = sums(tmp_path / "a"), DataSetLedger.of_run(recipe, store.path).path
    whole = file.read_bytes()
    for left in (None, whole[: whole.rindex(b"\n", 0, -1) + 1]):
        file.unlink() if left is None else file.write_bytes(left)
        found = pipeline.verify(tmp_path / "a")
        assert [problem["file"] for problem in found["problems"]] == [str(file)]
        assert f"shuyuan train {tmp_path / 'a'}" in found["problems"][0]["what"]
        assert sums(tmp_path / "a") == spent, "what the run itself knows is counted"
        heard = Progress()
        train(recipe, store, heard, threading.Event())
        assert "privacy.entered-again" in heard.said
        assert pipeline.verify(tmp_path / "a")["ok"]


def test_without_the_ledger_no_state_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry stands in both ledgers before a state is written: where it cannot, there is no state."""
    recipe, store = prepared(tmp_path / "a", **SECURE)

    def full(self: DataSetLedger, entry: dict[str, Any]) -> None:
        raise PrivacyError("privacy.no-ledger", "The disk is full.", mend="Free some space.")

    with monkeypatch.context() as patch:
        patch.setattr(DataSetLedger, "append", full)
        with pytest.raises(PrivacyError, match="disk is full"):
            train(recipe, store, Progress(), threading.Event())
    assert [name for name in store.names("checkpoints/") if "step-00000000" not in name] == []
    assert not store.exists("model") and not store.exists("ledger.jsonl")
    monkeypatch.setenv("SHUYUAN_HOME", str(tmp_path / "notes.txt"))
    with pytest.raises(PrivacyError, match="SHUYUAN_HOME"):
        train(recipe, store, Progress(), threading.Event())


def test_a_run_without_privacy_on_the_same_records_stays_known(tmp_path: Path) -> None:
    trained(tmp_path / "open", train__budget="2 steps", data__duplicates="keep")
    shutil.rmtree(tmp_path / "open")
    trained(tmp_path / "a", **SECURE)
    assert sums(tmp_path / "a")["uncovered"] == ["training"]
    assert sums(tmp_path / "a")["runs"] == 2
