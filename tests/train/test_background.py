"""Batches are read beside the steps: a step waits only for what reading takes longer than the step."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from shuyuan.train.backend import Batch
from shuyuan.train.background import Background
from shuyuan.vault import OpenStore

NOTHING = np.zeros((1, 2), np.int64)


def test_a_batch_is_read_while_the_step_before_it_is_made(tmp_path: Path) -> None:
    """Timed by events alone: each step ends only when the next batch was read, which would never come if steps read for themselves."""
    read = [threading.Event() for _ in range(7)]

    def sample(step: int) -> Batch:
        read[step].set()
        return Batch(step, NOTHING, NOTHING)

    with Background(sample, 6, OpenStore(tmp_path).journal("metrics.jsonl")) as background:
        for step in range(1, 7):
            assert background.batch(step).step == step
            assert step == 6 or read[step + 1].wait(timeout=60)


def test_waiting_is_what_reading_takes_longer_than_a_step(tmp_path: Path) -> None:
    def waited(step_seconds: float, reading_seconds: float) -> float:
        def sample(step: int) -> Batch:
            time.sleep(reading_seconds)
            return Batch(step, NOTHING, NOTHING)

        with Background(sample, 6, OpenStore(tmp_path).journal("metrics.jsonl")) as background:
            background.batch(1)  # nothing goes before it
            first = background.waited_seconds
            for step in range(2, 7):
                time.sleep(step_seconds)
                background.batch(step)
            return background.waited_seconds - first

    assert waited(0.0, 0.1) > 0.4  # five batches, each of which takes 0.1 s
    assert (
        waited(0.3, 0.01) < 0.4
    )  # would be 0.05 alone and far more on a busy machine, but never the 1.5 of the steps
