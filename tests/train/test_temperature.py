"""A classifier is made as sure as it is right on held-out records, and of private ones nothing is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan import pipeline
from shuyuan.data import open_split, prepare
from shuyuan.models import NgramClassifier, NgramConfig
from shuyuan.progress import Progress
from shuyuan.recipe import from_table
from shuyuan.train import training, with_torch
from shuyuan.train.framework import framework_of
from shuyuan.train.temperature import COLDEST, FEWEST, HOTTEST, temper, temperature
from shuyuan.vault import OpenStore
from tests.support.families import FAMILIES


def drawn(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn by their own probabilities."""
    random = np.random.default_rng(seed)
    logits_NK = random.normal(0, 2, (count, classes))
    shares_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(1, keepdims=True)
    labels_N = (shares_NK.cumsum(1) < random.random((count, 1))).sum(1).clip(0, classes - 1)
    return logits_NK, labels_N


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 8.0), st.integers(1, 20))
def test_it_finds_the_same_of_labels_that_are_told_one_by_one(times: float, labels: int) -> None:
    random = np.random.default_rng(0)
    logits_NK = random.normal(0, 2, (20_000, labels))
    has_NK = (random.random(logits_NK.shape) < 1 / (1 + np.exp(-logits_NK))).astype(int)
    assert temperature(times * logits_NK, has_NK) == pytest.approx(times, rel=0.06)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 8.0), st.integers(2, 20))
def test_it_finds_how_much_too_sure_logits_are(times: float, classes: int) -> None:
    logits_NK, labels_N = drawn(20_000, classes)
    assert temperature(times * logits_NK, labels_N) == pytest.approx(times, rel=0.05)


def test_it_stays_within_bounds_where_all_is_right_or_wrong() -> None:
    logits_NK = np.array([[1.0, 0.0]] * 8)
    assert temperature(logits_NK, np.zeros(8, int)) == pytest.approx(COLDEST, rel=1e-6)
    assert temperature(logits_NK, np.ones(8, int)) == pytest.approx(HOTTEST, rel=1e-6)


class Held:
    """Held-out records that are nothing but arrays."""

    def __init__(self, tokens_RT: np.ndarray, targets: np.ndarray) -> None:
        self.count, self.tokens_RT, self.targets = len(tokens_RT), tokens_RT, targets

    def at(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.tokens_RT[numbers], self.targets[numbers]


def made(records: int, multi_label: bool = False) -> tuple[NgramClassifier, Any]:
    config = NgramConfig.of(
        vocab_size=257,
        width=8,
        context=32,
        end_id=256,
        labels=("a", "b"),
        rows=97,
        longest=2,
        multi_label=multi_label,
    )
    model = NgramClassifier(config, seed=1)
    torch.nn.init.normal_(model.table.weight, std=3.0, generator=torch.Generator().manual_seed(2))
    random = np.random.default_rng(3)
    tokens_BT = random.integers(0, 257, (records, 16))
    shape = (records, 1, 2) if multi_label else (records, 1)
    return model, Held(tokens_BT, random.integers(0, 2, shape))


@pytest.mark.parametrize("multi_label", [False, True])
def test_labels_stay_and_a_model_that_guesses_says_so(multi_label: bool) -> None:
    model, records = made(400, multi_label)
    tokens_BT = torch.from_numpy(records.tokens_RT)
    before = model.eval()(tokens_BT).detach()
    number = temper(with_torch, model, records, 64)
    after = model(tokens_BT).detach()
    assert number > 4 and torch.equal(before.argmax(1), after.argmax(1))
    assert torch.allclose(before / number, after, atol=1e-5)


def test_few_records_change_nothing() -> None:
    model, records = made(FEWEST - 1)
    before = model.score.weight.clone()
    assert temper(with_torch, model, records, 64) == 1.0 and torch.equal(before, model.score.weight)


@pytest.mark.parametrize("privacy", [{}, {"privacy": {"noise_multiplier": 1.0, "unit": "record"}}])
def test_private_records_are_not_asked(
    privacy: dict[str, dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The held-out records of a private run are records too."""
    asked: list[int] = []
    monkeypatch.setattr(training, "temper", lambda *_: asked.append(1))
    FAMILIES["ngrams"].run(tmp_path, "classification", train={"budget": "2 steps"}, **privacy)
    assert asked == ([] if privacy else [1])


@pytest.mark.parametrize("family", ["transformer", "hub", "cnn", "rnn"])
def test_every_family_says_less_by_its_head_alone(family: str, tmp_path: Path) -> None:
    """What is divided is the logits, and nothing of what stands before the head."""
    recipe = from_table(FAMILIES[family].recipe(tmp_path, "classification"))
    store = OpenStore(tmp_path / "run")
    manifest = prepare(recipe, store, Progress())
    framework = framework_of(recipe)
    model = framework.trainable(recipe, manifest)
    inputs, _ = open_split(store, manifest, "validation", 32).at(np.arange(7))
    before = framework.logits(model, inputs)
    framework.divide_logits(model, 3.0)
    after = framework.logits(model, inputs)
    assert before.shape == (7, len(manifest.labels)) and before.std() > 0
    apart = [
        each - each[:, :1] for each in (before / 3, after)
    ]  # logarithms of probabilities are logits up to a number
    assert np.allclose(*apart, atol=1e-5) and not np.allclose(before, after, atol=1e-5)


def test_a_transformer_knows_how_sure_it_may_be(tmp_path: Path) -> None:
    """Of labels that are chance it has learned some by heart, and after the last step it says so."""
    random = np.random.default_rng(0)
    rows = [{"text": str(number), "label": str(random.integers(2))} for number in range(400)]
    (tmp_path / "chance.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"source": str(tmp_path / "chance.jsonl"), "validation": 0.4, "duplicates": "keep"}
    model, train = {"layers": 1, "width": 32, "context": 16}, {"budget": "150 steps", "batch_size": 64}
    table = {"task": "classification", "data": data, "model": model, "train": train}
    scores = pipeline.run(table, out=tmp_path / "run")["scores"]["classification"]["original"]
    assert scores["validation.loss"] < 0.72 and scores["validation.calibration_error"] < 0.15
