"""From a model of transformers and a few lines of recipe to a tuned one: full or LoRA, private or not, sealed or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from shuyuan import load, pipeline
from shuyuan.errors import Interrupted
from shuyuan.models.packed import pack, unpack
from shuyuan.progress import Stop
from tests.models.hub_folders import written
from tests.runs import Outcome, shuyuan, text_of
from tests.train.parts import StopAt

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks so
GOOD, BAD = ("splendid", "lovely", "warm"), ("dreadful", "boring", "cold")


def reviews(folder: Path, count: int = 240) -> None:
    """A table in which one word tells the label."""
    lines = text_of(count, seed=5).splitlines()
    rows = [
        {"text": f"{(BAD, GOOD)[number % 2][number % 3]} {line}", "label": number % 2, "who": number % 60}
        for number, line in enumerate(lines)
    ]
    (folder / "reviews.jsonl").write_text("\n".join(map(json.dumps, rows)))


def tuned(folder: Path, kind: str, task: str = "sentiment", more: str = "", steps: int = 30) -> Outcome:
    written(kind, folder / "base")
    data = 'source = "reviews.jsonl"\nduplicates = "keep"\nvalidation = 0.2\nowner = "who"'
    if task == "sentiment":
        data += '\nlabels = ["0", "1"]'
    (folder / "recipe.toml").write_text(
        f'task = "{task}"\n[data]\n{data}\n[model]\nfrom = "base"\ncontext = 64\n'
        f'[train]\nbudget = "{steps} steps"\nbatch_size = 16\nprecision = "fp32"\nevaluations = 2\nlearning_rate = 3e-3\n{more}'
    )
    reviews(folder)
    outcome = shuyuan("run", folder / "recipe.toml", "--out", folder / "run", "--json")
    assert outcome.status == 0, outcome.stderr
    return outcome


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_a_label_is_learned(tmp_path: Path, kind: str) -> None:
    summary = tuned(tmp_path, kind).json
    scores = summary["scores"]["sentiment"]["original"]
    assert scores["validation.accuracy"] > 0.9 > scores["validation.majority_accuracy"]
    assert summary["loss"]["validation"] == scores["validation.loss"]
    told = shuyuan("classify", tmp_path / "run", "splendid line", "--json").json["texts"]
    assert told[0]["label"] == "1" and told[0]["probability"] > 0.5
    assert sum(told[0]["probabilities"].values()) == pytest.approx(1)
    lines = shuyuan(
        "classify", tmp_path / "run", stdin="dreadful line 3\nlovely line 4\n"
    ).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["0", "1"]
    folder = tmp_path / "model"
    assert shuyuan("export", tmp_path / "run", "--to", folder).status == 0
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    assert theirs.config.id2label == {0: "0", 1: "1"}
    outcome = shuyuan("generate", tmp_path / "run", "splendid")
    assert outcome.status == 1 and "classify" in outcome.stderr


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_causal_model_of_another_architecture_goes_on_learning(tmp_path: Path, kind: str) -> None:
    summary = tuned(tmp_path, kind, "generation").json
    steps = [
        json.loads(line)["loss"]
        for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()
        if '"train.step"' in line
    ]
    assert steps[-1] < steps[0] - 1
    text = load(tmp_path / "run").generate("line 1", max_tokens=8, seed=1)
    assert text == shuyuan("generate", tmp_path / "run", "line 1", "--max-tokens", "8", "--json").json["text"]
    assert summary["parameters"] == json.loads((tmp_path / "run/plan.json").read_text())["parameters"]


@pytest.mark.parametrize(
    ("kind", "task", "lora"),
    [
        ("bert", "sentiment", "rank = 4"),
        ("bert", "sentiment", 'rank = 4, base = "int8"'),
        ("gpt2", "generation", "rank = 4"),
        ("qwen3", "generation", "rank = 4"),
        ("qwen3", "generation", 'rank = 4, base = "int4"'),
    ],
)
def test_lora_private_and_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, task: str, lora: str
) -> None:
    monkeypatch.setenv("SHUYUAN_TEST_KEY", "correct horse battery staple")
    more = f'lora = {{ {lora} }}\n[privacy]\nepsilon = 8.0\n[vault]\nkey = "env:SHUYUAN_TEST_KEY"\n'
    summary = tuned(tmp_path, kind, task, more, steps=6).json
    assert summary["sealed"] is True
    plan = shuyuan("plan", tmp_path / "run", "--json").json
    new_head = 2 * 32 + 2 if task == "sentiment" else 0  # which a plan leaves out
    assert (
        summary["parameters"] == plan["parameters"] + new_head
    )  # of the model that comes out, without adapters
    assert 7 < summary["privacy"]["epsilon"] <= 8 and summary["privacy"]["unit"] == "owner"
    verified = shuyuan("verify", tmp_path / "run", "--json").json
    assert verified["ok"] and verified["epsilon_recomputed"] == pytest.approx(summary["privacy"]["epsilon"])
    if task == "sentiment":
        assert "label" in shuyuan("classify", tmp_path / "run", "splendid", "--json").json["texts"][0]
    else:
        assert "text" in shuyuan("generate", tmp_path / "run", "line", "--max-tokens", "4", "--json").json


def test_a_tuned_run_is_started_from_again(tmp_path: Path) -> None:
    """Also one of another architecture, with other labels."""
    tuned(tmp_path, "bert", steps=4)
    recipe = (tmp_path / "recipe.toml").read_text()
    (tmp_path / "again.toml").write_text(recipe.replace('"base"', '"run"').replace("4 steps", "2 steps"))
    outcome = shuyuan("run", tmp_path / "again.toml", "--out", tmp_path / "again", "--json")
    assert outcome.status == 0, outcome.stderr


def test_lora_without_a_model_to_adapt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('[data]\nsource = "stdlib"\n[train]\nlora = { rank = 4 }\n')
    outcome = shuyuan("run", tmp_path / "recipe.toml", "--out", tmp_path / "run")
    assert outcome.status == 1 and "model.from" in outcome.stderr


@pytest.mark.parametrize("lora", ["rank = 4", 'rank = 4, base = "int4"', 'rank = 4, base = "int8"'])
def test_lora_goes_on_bit_for_bit_and_beside_the_same_weights_alone(tmp_path: Path, lora: str) -> None:
    tuned(tmp_path, "qwen3", "generation", f"lora = {{ {lora} }}\n", steps=8)
    stop = Stop()
    with (
        pytest.raises(Interrupted),
        pipeline.begin(
            tmp_path / "recipe.toml", "train", out=tmp_path / "stopped", progress=StopAt(stop, 4), stop=stop
        ) as job,
    ):
        pipeline.everything(job)
    stopped = tmp_path / "stopped"
    shutil.copytree(stopped, tmp_path / "copy")
    assert shuyuan("run", stopped).status == 0
    first, second = (tmp_path / name / "model/model.safetensors" for name in ("run", "stopped"))
    assert first.read_bytes() == second.read_bytes()
    shutil.rmtree(tmp_path / "base")
    written("qwen3", tmp_path / "base", seed=1)
    outcome = shuyuan("train", tmp_path / "copy")
    assert outcome.status == 1 and "has changed since training began" in outcome.stderr


@pytest.mark.parametrize("base", ["int8", "int4"])
def test_the_finished_model_has_the_rounded_matrices(tmp_path: Path, base: str) -> None:
    """As it was trained: those that are no target are what the codes stand for, all else in floats is as it was."""
    bits = 8 if base == "int8" else 4
    more = f'lora = {{ rank = 4, base = "{base}", targets = ["q_proj"] }}\n'
    summary = tuned(tmp_path, "qwen3", "generation", more, steps=4).json
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "run/model"))
    assert before.keys() == after.keys()
    assert summary["parameters"] == sum(weight.size for weight in before.values())
    for name, weight in before.items():
        if ".layers." not in name or weight.ndim == 1:
            assert np.array_equal(after[name], weight), name
            continue
        rounded = unpack(name, *pack(weight, bits), "here")
        assert np.array_equal(after[name], rounded) == ("q_proj" not in name), name
        assert np.abs(after[name] - rounded).max() < 0.1 * np.abs(weight).max()


def test_a_base_that_cannot_be_codes_is_refused_before_any_work(tmp_path: Path) -> None:
    written("gpt2", tmp_path / "base")
    reviews(tmp_path)
    recipe = '[data]\nsource = "reviews.jsonl"\n[model]\nfrom = "base"\ncontext = 64\n[train]\n'
    (tmp_path / "recipe.toml").write_text(recipe + 'lora = { base = "int4" }\n')
    for verb in (["plan"], ["run", "--out", tmp_path / "run"]):
        outcome = shuyuan(verb[0], tmp_path / "recipe.toml", *verb[1:])
        assert outcome.status == 1 and "models.no-quantised-base" in outcome.stderr, outcome.stderr
        assert "Conv1D" in outcome.stderr and "Leave the key out" in outcome.stderr
    (tmp_path / "recipe.toml").write_text(recipe + 'lora = { base = "int2" }\n')
    outcome = shuyuan("plan", tmp_path / "recipe.toml")
    assert outcome.status == 1 and "train.lora.base" in outcome.stderr and "int4" in outcome.stderr
