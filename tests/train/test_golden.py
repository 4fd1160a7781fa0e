"""A stored loss curve, so that a refactor that changes the training shows: python -m tests.train.test_golden writes it anew."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from shuyuan.models import Transformer, TransformerConfig
from shuyuan.train.backend import Batch
from shuyuan.train.precision import repeatable
from shuyuan.train.schedules import Schedule
from shuyuan.train.torch_backend import TorchBackend

from .parts import OLD_CPU, settings

GOLDEN = Path(__file__).with_name("golden_transformer.json")
WORDS = ["the", "red", "fox", "saw", "a", "small", "bird", "near", "old", "river", "and", "went", "home"]
STEPS, B, T = 20, 4, 32
RATES = {"muon": 0.01, "adamw": 0.003, "sgd": 0.1}


def curve(optimizer: str) -> list[float]:
    """Losses of 20 steps in float32 of a tiny transformer on made-up text."""
    text = " ".join(random.Random(0).choices(WORDS, k=2000)).encode()
    tokens = np.frombuffer(text[: STEPS * B * T + 1], np.uint8).astype(np.int64)
    inputs, targets = (part.reshape(STEPS, B, T) for part in (tokens[:-1], tokens[1:]))
    train = settings(optimizer=optimizer, steps=STEPS, micro_batch=2, schedule="wsd", warmup=0.1, decay=0.4)
    config = TransformerConfig(
        vocab_size=257, layers=2, width=32, heads=2, kv_heads=1, head_dim=16, hidden=64, context=T, end_id=256
    )
    schedule = Schedule(train, STEPS)
    with repeatable(1, 1, "fp32"):
        backend = TorchBackend(Transformer(config, seed=1), train, OLD_CPU)
        return [
            backend.step(
                Batch(step, inputs[step - 1], targets[step - 1]), RATES[optimizer] * schedule.factor(step)
            ).loss
            for step in range(1, STEPS + 1)
        ]


@pytest.mark.parametrize("optimizer", sorted(RATES))
def test_the_loss_curve_is_the_stored_one(optimizer: str) -> None:
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))[optimizer]
    assert curve(optimizer) == pytest.approx(stored, rel=0, abs=1e-4)  # processors differ in their last bits
    assert stored[-1] < stored[0] - 0.5


if __name__ == "__main__":
    curves = {optimizer: [round(loss, 6) for loss in curve(optimizer)] for optimizer in sorted(RATES)}
    GOLDEN.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
