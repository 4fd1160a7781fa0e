"""Bad input through the front door: one clear error, the right exit status, and nothing half-made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runs import shuyuan, text_of, write_recipe


def refused(*arguments: str | Path) -> dict[str, str]:
    outcome = shuyuan(*arguments, "--json")
    assert outcome.status == 1, outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr
    error: dict[str, str] = outcome.json["error"]
    assert error["what"] and error["mend"] and "." in error["code"]
    return error


def test_no_such_recipe(tmp_path: Path) -> None:
    assert refused("run", tmp_path / "none.toml")["code"] == "recipe.missing"


@pytest.mark.parametrize("typed", ["tickets", "tikets.toml", "ticket.tml"])
def test_what_may_be_meant(tmp_path: Path, typed: str) -> None:
    meant = tmp_path / "tickets.toml"
    meant.write_text("[data]\n")
    assert refused("run", tmp_path / typed)["mend"] == f"Did you mean {meant}?"
    assert "demo-private" in refused("plan", "nothing-like-it")["mend"]
    assert refused("plan", "demo-privat")["mend"] == "Did you mean demo-private?"


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    assert refused("info", tmp_path)["code"] == "run.not-a-run"
    assert refused("keys", "list", tmp_path / "none")["code"] == "run.not-a-run"


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\xfa\xfb\x80", b"one line\n"])
def test_bad_sources_leave_nothing_behind(tmp_path: Path, content: bytes | None) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "notes.txt").unlink()
    if content is not None:
        (tmp_path / "notes.txt").write_bytes(content)
    error = refused("run", recipe, "--out", tmp_path / "run")
    assert error["code"].startswith("data.")
    assert not (tmp_path / "run").exists()


def test_no_such_column(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    rows = [json.dumps({"words": line}) for line in text_of(50).splitlines()]
    (tmp_path / "notes.jsonl").write_text("\n".join(rows), encoding="utf-8")
    error = refused(
        "run", recipe, "--set", f"data.source={tmp_path / 'notes.jsonl'}", "--out", tmp_path / "run"
    )
    assert error["code"] == "data.no-column"
    assert "words" in error["mend"]
    assert not (tmp_path / "run").exists()


def test_a_changed_recipe_is_refused_with_the_difference(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, steps=2)
    assert shuyuan("run", recipe, "--out", tmp_path / "run").status == 0
    error = refused(
        "run", recipe, "--out", tmp_path / "run", "--set", "seed=2", "--set", "train.schedule=cosine"
    )
    assert error["code"] == "run.other-recipe"
    assert (
        "seed: 1 there, 2 asked" in error["what"]
        and "train.schedule: 'wsd' there, 'cosine' asked" in error["what"]
    )


def test_a_folder_with_something_else(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("precious")
    assert refused("run", recipe, "--out", tmp_path / "mine")["code"] == "run.folder-in-use"
    assert (tmp_path / "mine/letter.txt").read_text() == "precious"


def test_what_cannot_fit_is_refused_before_any_work(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    changes = [
        "--set",
        "model.layers=200",
        "--set",
        "model.width=65536",
        "--set",
        "model.heads=512",
        "--set",
        "model.hidden=200000",
    ]
    began = time.monotonic()
    error = refused("run", recipe, "--out", tmp_path / "run", *changes)
    assert error["code"] == "plan.does-not-fit"
    assert time.monotonic() - began < 20
    assert not (tmp_path / "run").exists()


def test_bad_settings_of_generate(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, steps=2)
    assert shuyuan("run", recipe, "--out", tmp_path / "run").status == 0
    for option, value in (("--temperature", "-1"), ("--top-p", "0"), ("--top-k", "0"), ("--max-tokens", "0")):
        assert (
            option.removeprefix("--").replace("-", "_")
            in refused("generate", tmp_path / "run", "a", option, value)["what"]
        )


def test_two_at_once(tmp_path: Path) -> None:
    from shuyuan.runs import Run

    recipe = write_recipe(tmp_path)
    with Run(tmp_path / "run").lock("train"):
        error = refused("run", recipe, "--out", tmp_path / "run")
    assert error["code"] == "run.locked"
    assert str(os.getpid()) in error["what"] and "train" in error["what"]


def test_an_unforeseen_error_quotes_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shuyuan.pipeline import stages

    def explode(*_: object) -> None:
        raise ValueError("CANARY-a-line-of-a-record")

    monkeypatch.setattr(stages, "prepare", explode)
    outcome = shuyuan("run", write_recipe(tmp_path), "--out", tmp_path / "run")
    assert outcome.status == 1
    assert "ValueError" in outcome.stderr
    assert "CANARY" not in outcome.stderr + outcome.stdout


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a recipe, and beside it the run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe = write_recipe(folder, steps=120)  # long enough that the signal finds it at work
    plain = shuyuan("run", recipe, "--out", folder / "plain")
    assert plain.status == 0, plain.stderr
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on(
    tmp_path: Path, undisturbed: Path, number: signal.Signals
) -> None:
    recipe = undisturbed / "recipe.toml"
    command = [sys.executable, "-m", "shuyuan", "run", str(recipe), "--out", str(tmp_path / "run"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    checkpoints = tmp_path / "run/checkpoints"
    while not (checkpoints.is_dir() and any(checkpoints.glob("step-*"))) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stdout + stderr
    assert json.loads(stdout.splitlines()[-1])["error"]["code"] in ("train.interrupted", "run.interrupted")
    again = shuyuan("run", recipe, "--out", tmp_path / "run")
    assert again.status == 0, again.stderr
    first, second = (run / "model/model.safetensors" for run in (undisturbed / "plain", tmp_path / "run"))
    assert first.read_bytes() == second.read_bytes()


def test_a_system_that_refuses_is_told_in_words_alone(tmp_path: Path) -> None:
    """Not as [Errno 17] File exists: '…', whose path stands beside it already."""
    (tmp_path / "state").write_text("no folder")
    outcome = shuyuan("users", "list", "--state", tmp_path / "state")
    assert outcome.status == 1 and "Errno" not in outcome.stderr and "serve.no-state" in outcome.stderr
