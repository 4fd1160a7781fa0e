"""Runs on images by the command, from the recipes that come with it: what each verb says of them, and refuses."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shuyuan import pipeline
from shuyuan import recipe as recipes
from tests.runs import shuyuan

QUICK = ["--set", "train.budget=30 steps", "--set", "train.batch_size=64", "--set", "train.evaluations=1"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe `digits`, for 30 steps."""
    pytest.importorskip("sklearn")
    run = tmp_path_factory.mktemp("digits") / "run"
    outcome = shuyuan("run", "digits", *QUICK, "--out", run, "--json")
    assert outcome.status == 0, outcome.stderr
    (run.parent / "summary.json").write_text(json.dumps(outcome.json))
    return run


def test_every_recipe_that_comes_along_can_be_read() -> None:
    files = sorted(pipeline.RECIPES.glob("*.toml"))
    assert {"digits", "mnist", "mnist-private", "demo", "demo-private"} <= {file.stem for file in files}
    for file in files:
        assert recipes.load(file).name == file.stem, file


def test_digits_are_told_apart(digits: Path) -> None:
    summary = json.loads((digits.parent / "summary.json").read_text())
    assert (summary["family"], summary["task"], summary["status"]) == ("cnn", "classification", "complete")
    scores = summary["scores"]["classification"]["original"]
    assert scores["validation.accuracy"] > 0.9
    assert summary["parameters"] == 82_266
    assert summary["tokens"] == 30 * 64


def test_what_the_run_says_names_records_and_not_tokens(digits: Path) -> None:
    told = shuyuan("info", digits).stdout
    assert "1,920 records" in told and "token" not in told
    page = (digits / "report.html").read_text(encoding="utf-8")
    assert "64 images" in page and "sequences" not in page
    card = (digits / "model/README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: image-classification" in card and "shuyuan classify RUN PICTURE" in card
    assert "tokenizer" not in card and "transformers" not in card and "Qwen3" not in card


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["generate", "RUN", "Once"], "inference.no-text"),
        (["audit", "RUN"], "run.no-canaries"),
        (["run", "digits", "--set", "audit.canaries=10"], "recipe.bad-value"),
        (["run", "digits", "--set", "train.lora={rank=4}", "--set", "model.from=RUN"], "recipe.bad-value"),
        (["run", "digits", "--set", "model.context=64"], "recipe.bad-value"),
    ],
)
def test_what_makes_no_sense_for_images_is_refused_by_name(
    digits: Path, arguments: list[str], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = shuyuan(*(argument.replace("RUN", str(digits)) for argument in arguments), "--json")
    assert outcome.status == 1
    assert outcome.json["error"]["code"] == code


def test_a_second_run_starts_from_the_first(digits: Path, tmp_path: Path) -> None:
    start = ["--set", f"model.from={digits}", "--set", "train.learning_rate=0.001"]
    outcome = shuyuan("run", "digits", *QUICK, *start, "--out", tmp_path / "run", "--json")
    assert outcome.status == 0, outcome.stderr
    log = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    first = next(line["loss"] for line in log if line["event"] == "train.step")
    assert first < 0.5, "a network that knows no digits begins at ln 10"
    assert "trained further from the model run" in (tmp_path / "run/model/README.md").read_text()


def test_the_folder_that_is_exported_is_a_plain_module(digits: Path, tmp_path: Path) -> None:
    from shuyuan.models import hub

    assert shuyuan("export", digits, "--to", tmp_path / "out").status == 0
    model: Any = hub.load_folder(tmp_path / "out")
    assert model.config.labels == tuple("0123456789")
    assert (digits / "model/model.safetensors").read_bytes() == (
        tmp_path / "out/model.safetensors"
    ).read_bytes()


def test_mnists_files_are_found_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Privately, with the recipe that comes along, on made-up files of that name and format."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    (tmp_path / "mnist").mkdir()
    for part, count in (("train", 400), ("t10k", 60)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = random.integers(0, 80, (count, 28, 28)).astype(np.uint8)
        for number, label in enumerate(labels):
            images[number, 2 * label : 2 * label + 6] += 120
        files = {"images-idx3": struct.pack(">4I", 0x803, count, 28, 28) + images.tobytes(),
                 "labels-idx1": struct.pack(">2I", 0x801, count) + labels.tobytes()}  # fmt: skip
        for kind, content in files.items():
            (tmp_path / f"mnist/{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    asked = ["--set", "train.budget=8 steps", "--set", "train.batch_size=48", "--set", "privacy.epsilon=8.0"]
    outcome = shuyuan("run", "mnist-private", *asked, "--json")
    assert outcome.status == 0, outcome.stderr
    assert 7.9 < outcome.json["privacy"]["epsilon"] <= 8.0
    assert "test.accuracy" in outcome.json["scores"]["classification"]["original"]
    page = (tmp_path / "runs/mnist-private/report.html").read_text(encoding="utf-8")
    assert "Private: ε = " in page


@pytest.mark.slow
def test_digits_are_learned_in_twenty_seconds(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    outcome = shuyuan("run", "digits", "--out", tmp_path / "run", "--json")
    scores = outcome.json["scores"]["classification"]["original"]
    assert scores["validation.accuracy"] >= 0.97
