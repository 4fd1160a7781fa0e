"""Recurrent models through the command: from a recipe to labels, texts and a file that Keras opens."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shuyuan as library
from shuyuan.errors import ShuyuanError
from tests.cli.test_finetune import reviews
from tests.runs import shuyuan, text_of

keras = pytest.importorskip("keras")
TRAIN = 'batch_size = 16\nprecision = "fp32"\nevaluations = 2'


def recipe(
    folder: Path, *, task: str = "generation", model: str = "", steps: int = 40, more: str = ""
) -> Path:
    """Writes a recipe and its source."""
    (folder / "notes.txt").write_text(text_of(300))
    reviews(folder)
    source = 'source = "notes.txt"\nrecord = "line"\nvalidation = 0.2'
    if task != "generation":
        source = 'source = "reviews.jsonl"\nduplicates = "keep"\nvalidation = 0.2\nlabels = ["0", "1"]'
    (folder / "recipe.toml").write_text(
        f'task = "{task}"\n[data]\n{source}\n[model]\nfamily = "rnn"\ncontext = 64\n{model}\n'
        f'[train]\nbudget = "{steps} steps"\n{TRAIN}\n{more}'
    )
    return folder / "recipe.toml"


def test_a_label_is_learned_and_told(tmp_path: Path) -> None:
    file = recipe(
        tmp_path, task="sentiment", model="width = 32\nbidirectional = true", more="learning_rate = 0.02"
    )
    outcome = shuyuan("run", file, "--out", tmp_path / "run", "--json")
    assert outcome.status == 0, outcome.stderr
    scores = outcome.json["scores"]["sentiment"]["original"]
    assert scores["validation.accuracy"] > 0.9 > scores["validation.majority_accuracy"]
    told = shuyuan("classify", tmp_path / "run", "splendid line", "--json").json["texts"]
    assert told[0]["label"] == "1" and sum(told[0]["probabilities"].values()) == pytest.approx(1)
    assert shuyuan("generate", tmp_path / "run", "splendid").status == 1


def test_the_whole_way_sealed_with_an_export_that_keras_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHUYUAN_TEST_KEY", "a passphrase for a test")
    file = recipe(tmp_path, model='width = 32\ncell = "gru"', more='\n[vault]\nkey = "env:SHUYUAN_TEST_KEY"')
    outcome = shuyuan("run", file, "--out", tmp_path / "run", "--json")
    assert outcome.status == 0, outcome.stderr
    assert (outcome.json["family"], outcome.json["status"], outcome.json["sealed"]) == (
        "rnn",
        "complete",
        True,
    )
    assert outcome.json["scores"]["generation"]["original"]["validation.loss"] < 5.2
    assert shuyuan("verify", tmp_path / "run", "--json").json["ok"]
    first, again = (shuyuan("generate", tmp_path / "run", "line", "--seed", "3").stdout for _ in range(2))
    assert first == again and len(first) > 4
    refused = shuyuan("export", tmp_path / "run", "--to", tmp_path / "out", "--as", "huggingface")
    assert refused.status == 1 and "--as keras" in refused.stderr
    done = shuyuan("export", tmp_path / "run", "--to", tmp_path / "out", "--as", "keras", "--open", "--json")
    assert done.json["as"] == "keras"
    plain = keras.saving.load_model(tmp_path / "out/model.keras", safe_mode=True)
    said = plain.predict(np.array([[1, 2, 3]]), verbose=0)
    assert said.shape == (1, 3, 257) and said.sum() == pytest.approx(3, rel=1e-4)
    card = (tmp_path / "out/README.md").read_text()
    assert "library_name: keras" in card and "gru layers of 32 units" in card


def test_a_model_of_ones_own_goes_the_whole_way(tmp_path: Path) -> None:
    L = keras.layers
    mine = keras.Sequential([L.Input((None,), dtype="int32"), L.Embedding(257, 16), L.Conv1D(16, 3, padding="causal"),
                             L.LSTM(16, return_sequences=True), L.LayerNormalization(), L.Dense(257)])  # fmt: skip
    mine.save(tmp_path / "mine.keras")
    file = recipe(tmp_path, model='from = "mine.keras"', steps=10)
    outcome = shuyuan("run", file, "--out", tmp_path / "run", "--json")
    assert outcome.status == 0, outcome.stderr
    assert outcome.json["parameters"] == mine.count_params()
    assert library.load(tmp_path / "run").generate("line", max_tokens=5, seed=1)
    again = recipe(tmp_path, model=f'from = "{tmp_path / "run"}"', steps=5)
    assert shuyuan("run", again, "--out", tmp_path / "again", "--json").status == 0


def test_a_model_is_handed_in_from_python(tmp_path: Path) -> None:
    L = keras.layers

    def make() -> Any:
        return keras.Sequential(
            [L.Input((None,), dtype="int32"), L.Embedding(257, 8), L.GRU(8), L.Dense(257)]
        )

    file = recipe(tmp_path, model="", steps=3)
    table = tomllib.loads(file.read_text())
    del table["model"]["family"]
    table["data"]["source"] = str(tmp_path / "notes.txt")
    summary = library.run(table, out=tmp_path / "run", model=make)
    assert (summary["family"], summary["parameters"]) == ("rnn", make().count_params())
    assert (tmp_path / "run.keras").is_file()
    again = library.run(table, out=tmp_path / "run", model=make())  # other weights: the run is done already
    assert again["loss"] == summary["loss"]
    other = keras.Sequential([L.Input((None,), dtype="int32"), L.Embedding(257, 8), L.LSTM(8), L.Dense(257)])
    with pytest.raises(ShuyuanError, match=r"models\.other-start"):
        library.run(table, out=tmp_path / "run", model=other)
    with pytest.raises(ShuyuanError, match=r"models\.unknown-layer"):
        library.run(table, out=tmp_path / "odd", model=keras.Sequential([L.Input((3,)), L.Lambda(abs)]))


def test_private_from_recipe_to_ledger(tmp_path: Path) -> None:
    more = 'optimizer = "sgd"\n[privacy]\nepsilon = 8.0\nunit = "record"\nrecords_per_unit = 1'
    file = recipe(tmp_path, model="width = 16\ncontext = 32".replace("context = 32", ""), steps=6, more=more)
    outcome = shuyuan("run", file, "--out", tmp_path / "run", "--json")
    assert outcome.status == 0, outcome.stderr
    assert 7.9 < outcome.json["privacy"]["epsilon"] <= 8.0
    found = shuyuan("verify", tmp_path / "run", "--json").json
    assert found["ok"] and found["epsilon_recomputed"] == pytest.approx(outcome.json["privacy"]["epsilon"])
    assert not (tmp_path / "run/privacy-secret.json").exists()


def test_a_whole_run_loads_no_torch(tmp_path: Path) -> None:
    """From plan to report and a text of its own; but for the machine's rates, which torch measures once."""
    file = recipe(tmp_path, model="width = 16", steps=4)
    code = (
        "import sys, shuyuan\n"
        "from shuyuan.hardware import rates\n"
        "rates._measure = lambda machine, progress: (rates.assumed_rates(machine), 0.0)\n"
        f"shuyuan.run({str(file)!r}, out={str(tmp_path / 'run')!r})\n"
        f"shuyuan.load({str(tmp_path / 'run')!r}).generate('line', max_tokens=3)\n"
        "print(*sorted({'torch', 'tensorflow'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True
    )
    assert done.stdout.split() == ["tensorflow"]


def test_a_recipe_says_what_is_missing_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shuyuan.models import keras_library

    monkeypatch.setattr(keras_library, "find_spec", lambda name: None)
    outcome = shuyuan("run", recipe(tmp_path), "--out", tmp_path / "run", "--json")
    assert outcome.status == 1
    error = json.loads(outcome.stdout.splitlines()[-1])["error"]
    assert error["code"] == "machine.missing-extra" and "pip install 'shuyuan[tensorflow]'" in error["mend"]
    assert not (tmp_path / "run").exists()
