"""What a classifier of n-grams needs, foretold beside what it takes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shuyuan.models import NgramClassifier, NgramConfig
from shuyuan.planning import plan
from shuyuan.planning.cost import optimizer_bytes
from shuyuan.planning.prediction import Plan
from shuyuan.recipe import Train
from shuyuan.train.optimizers import Optimizers

from .parts import CPU, RATES, SMALL_CPU, make_manifest, make_recipe
from .test_memory import RUN


def planned(records: int = 10_000, **tables: Any) -> Plan:
    labels = ["bad", "good"]
    recipe = make_recipe(**{"task": "sentiment", "data": {"source": "a.csv", "labels": labels}, **tables})
    return plan(recipe, CPU, RATES, replace(make_manifest(100 * records), labels=labels))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_parameters_and_optimizer_are_counted_exactly(optimizer: Any) -> None:
    config = NgramConfig.of(vocab_size=9, width=8, context=16, end_id=8, labels=("a", "b"), rows=23)
    model = NgramClassifier(config)
    assert config.parameters == sum(weight.numel() for weight in model.parameters())
    tensors = Optimizers(model, optimizer, 0.1).tensors().values()
    assert optimizer_bytes(config, Train(optimizer=optimizer)) == sum(
        tensor.nbytes for tensor in tensors if tensor.ndim
    )


def test_a_time_budget_takes_no_longer_than_what_is_enough() -> None:
    short, long = planned(train={"budget": "1 s"}), planned(train={"budget": "9 h"})
    assert short.seconds.expected == 1.0 and long.seconds.expected < 600
    assert 0 < short.tokens < long.tokens and long.train_flops > 0


def test_what_does_not_fit_is_told_a_smaller_table() -> None:
    recipe = make_recipe(
        task="sentiment", model={"size": "large"}, data={"source": "a", "labels": ["a", "b"]}
    )
    found = plan(recipe, SMALL_CPU, RATES, replace(make_manifest(), labels=["a", "b"]))
    assert not found.fits and 'model.size = "medium"' in " ".join(found.advice)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is measured on Linux")
@pytest.mark.parametrize(
    ("labels", "tables"),
    [
        (2, {}),
        pytest.param(70, {}, marks=pytest.mark.slow),
        pytest.param(70, {"privacy": {"epsilon": 8.0, "unit": "record"}}, marks=pytest.mark.slow),
    ],
)
def test_the_peak_is_what_a_real_run_takes(labels: int, tables: dict[str, Any], tmp_path: Path) -> None:
    """Of texts that fill the context."""
    draw = random.Random(1)
    names = [f"l{number:02}" for number in range(labels)]
    rows = [
        {"text": " ".join(f"w{draw.randrange(5000)}" for _ in range(200)), "label": names[number % labels]}
        for number in range(1200)
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = {
        "task": "classification",
        "data": {"source": str(tmp_path / "texts.jsonl"), "labels": names},
        "train": {"budget": "6 steps", "evaluations": 1},
        **tables,
    }
    command = [sys.executable, "-c", RUN, str(tmp_path), json.dumps(recipe)]
    done = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    )
    measured, peak = done["measured"]["peak_bytes"], done["peak_bytes"]
    assert peak["low"] <= measured <= peak["high"]
    assert peak["expected"] == pytest.approx(measured, rel=0.10)
