"""A classifier is made as sure as it is right on held-out records, and of private ones nothing is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.models import NgramClassifier, NgramConfig
from shuyuan.train import training
from shuyuan.train.temperature import COLDEST, FEWEST, HOTTEST, temper, temperature
from tests.support.families import FAMILIES


def drawn(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn by their own probabilities."""
    random = np.random.default_rng(seed)
    logits_NK = random.normal(0, 2, (count, classes))
    shares_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(1, keepdims=True)
    labels_N = (shares_NK.cumsum(1) < random.random((count, 1))).sum(1).clip(0, classes - 1)
    return logits_NK, labels_N


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 8.0), st.integers(2, 20))
def test_it_finds_how_much_too_sure_logits_are(times: float, classes: int) -> None:
    logits_NK, labels_N = drawn(20_000, classes)
    assert temperature(times * logits_NK, labels_N) == pytest.approx(times, rel=0.05)


def test_it_stays_within_bounds_where_all_is_right_or_wrong() -> None:
    logits_NK = np.array([[1.0, 0.0]] * 8)
    assert temperature(logits_NK, np.zeros(8, int)) == pytest.approx(COLDEST, rel=1e-6)
    assert temperature(logits_NK, np.ones(8, int)) == pytest.approx(HOTTEST, rel=1e-6)


def made(records: int) -> tuple[NgramClassifier, list[tuple[np.ndarray, np.ndarray]]]:
    config = NgramConfig.of(
        vocab_size=257, width=8, context=32, end_id=256, labels=("a", "b"), rows=97, longest=2
    )
    model = NgramClassifier(config, seed=1)
    torch.nn.init.normal_(model.table.weight, std=3.0, generator=torch.Generator().manual_seed(2))
    random = np.random.default_rng(3)
    tokens_BT = random.integers(0, 257, (records, 16))
    return model, [(tokens_BT, random.integers(0, 2, (records, 1)))]


def test_labels_stay_and_a_model_that_guesses_says_so() -> None:
    model, batches = made(400)
    tokens_BT = torch.from_numpy(batches[0][0])
    before = model.eval()(tokens_BT).detach()
    number = temper(model, batches)
    after = model(tokens_BT).detach()
    assert number > 4 and torch.equal(before.argmax(1), after.argmax(1))
    assert torch.allclose(before / number, after, atol=1e-5)


def test_few_records_change_nothing() -> None:
    model, batches = made(FEWEST - 1)
    before = model.score.weight.clone()
    assert temper(model, batches) == 1.0 and torch.equal(before, model.score.weight)


@pytest.mark.parametrize("privacy", [{}, {"privacy": {"noise_multiplier": 1.0, "unit": "record"}}])
def test_private_records_are_not_asked(
    privacy: dict[str, dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The held-out records of a private run are records too."""
    asked: list[int] = []
    monkeypatch.setattr(training, "temper", lambda model, batches: asked.append(1))
    FAMILIES["ngrams"].run(tmp_path, "classification", train={"budget": "2 steps"}, **privacy)
    assert asked == ([] if privacy else [1])
