"""Trains a prepared run in a process of its own, so that a test can kill it: python child.py RUN CORES."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from shuyuan.hardware import detect
from shuyuan.progress import Progress, Stage
from shuyuan.runs import Run
from shuyuan.train import train, training
from shuyuan.vault import open_store


class Talking(Progress):
    """Says each step on stdout."""

    @contextmanager
    def stage(self, name: str, total: float | None, unit: str) -> Iterator[Stage]:
        class Said(Stage):
            def advance(self, amount: float = 1.0, **figures: float | str) -> None:
                super().advance(amount, **figures)
                sys.stdout.write(f"{self.done:g}\n")
                sys.stdout.flush()

        yield Said(name, total, unit)


if __name__ == "__main__":
    machine = replace(detect(), cores=int(sys.argv[2]))
    training.detect = lambda: machine
    run = Run(sys.argv[1])
    recipe = run.recipe()
    with open_store(run, recipe.vault.key if recipe.vault else None) as store:
        train(recipe, store, Talking(), threading.Event())
