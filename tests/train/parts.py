"""Small parts that the tests of this room share: a backend without a framework, a network with dropout, made-up data."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shuyuan.hardware import Hardware
from shuyuan.progress import Progress
from shuyuan.recipe import Train
from shuyuan.train.backend import Batch, Figures, StepByStep
from shuyuan.train.checkpoints import Checkpoints
from shuyuan.train.driver import Driver
from shuyuan.train.tensorboard import EventFile
from shuyuan.vault import OpenStore

CPU = Hardware("cpu", "a test machine", 2, 8 << 30, ("avx512_bf16",))
OLD_CPU = Hardware("cpu", "an old machine", 2, 8 << 30, ())


def settings(**changes: Any) -> Train:
    """A resolved [train] section."""
    table = {
        "steps": 12, "batch_size": 4, "micro_batch": 4, "precision": "fp32", "learning_rate": 0.01,
        "checkpoint_every": "1000 steps", "evaluations": 3, "schedule": "constant", "warmup": 0.0, "optimizer": "muon", "weight_decay": 0.1,
    }  # fmt: skip
    return Train.model_validate(table | changes)


class Plain(StepByStep):
    """A backend of a few numbers. Its loss is not finite at the steps in `bad`, if the rate is at least the one there."""

    parameters = 2
    device = "cpu"

    def __init__(self, bad: dict[int, float] | None = None) -> None:
        self.weights = np.array([1.0, 2.0])
        self.bad = bad or {}
        self.rates: list[tuple[int, float]] = []

    def step(self, batch: Batch, learning_rate: float) -> Figures:
        self.rates.append((batch.step, learning_rate))
        if learning_rate >= self.bad.get(batch.step, np.inf):
            return Figures(float("nan"), float("nan"), 8, "the loss is not finite")
        self.weights = self.weights * 0.9 + learning_rate * batch.inputs_BT.sum()
        return Figures(float(self.weights.sum()), 1.0, 8)

    def evaluate(self, batches: Sequence[Batch]) -> float:
        return float(self.weights.mean()) + len(batches)

    def layout(self) -> dict[str, Any]:
        return self.state()

    def state(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load(self, arrays: dict[str, Any]) -> None:
        self.weights = arrays["weights"].copy()

    def peak_bytes(self) -> int:
        return 1000


def sample(step: int) -> Batch:
    """Made-up tokens, a pure function of the step."""
    tokens = np.random.default_rng(step).integers(0, 50, (4, 9))
    return Batch(step, tokens[:, :-1].copy(), tokens[:, 1:].copy())


class StopAt(Progress):
    """Sets an event once a stage has come so far, as Ctrl-C would."""

    def __init__(self, stop: threading.Event, step: int) -> None:
        super().__init__()
        self.stop, self.step = stop, step

    def stage(self, name: str, total: float | None, unit: str) -> Any:
        outer = super().stage(name, total, unit)
        me = self

        class Watched:
            def __enter__(self) -> Any:
                stage = outer.__enter__()
                advance = stage.advance

                def watch(amount: float = 1.0, **figures: Any) -> None:
                    advance(amount, **figures)
                    if stage.done >= me.step:
                        me.stop.set()

                stage.advance = watch
                return stage

            def __exit__(self, *error: Any) -> Any:
                return outer.__exit__(*error)

        return Watched()


def drive(
    path: Path,
    backend: Any,
    *,
    stop_at: int | None = None,
    take: Callable[[int], Batch] = sample,
    clock: Callable[[], float] | None = None,
    progress: Progress | None = None,
    identity: dict[str, Any] | None = None,
    tensorboard: bool = False,
    **changes: Any,
) -> Driver:
    """Runs a driver in a run folder until its end, or until it is interrupted at a step."""
    train = settings(**changes)
    stop = threading.Event()
    if stop_at is not None:
        progress = StopAt(stop, stop_at)
    store = OpenStore(path)
    checkpoints = Checkpoints(store, identity or {"seed": 1}, {"threads": 2}, train.keep)
    extra = {"clock": clock} if clock else {}
    journal = store.journal("metrics.jsonl")
    driver = Driver(
        train,
        backend,
        take,
        [sample(0)],
        checkpoints,
        EventFile(journal, store, private=False) if tensorboard else journal,
        progress or Progress(),
        stop,
        **extra,
    )
    driver.run(precision="fp32")
    return driver


def events(path: Path, name: str | None = None) -> list[dict[str, Any]]:
    """The log's lines of one event, or all."""
    return [
        line for line in OpenStore(path).journal("metrics.jsonl").entries() if name in (None, line["event"])
    ]


class Network(nn.Module):
    """A small language model with dropout, so that its steps depend on torch's random state."""

    def __init__(self, vocabulary: int = 50, width: int = 16, dropout: float = 0.0, seed: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embed_tokens = nn.Embedding(vocabulary, width)
        blocks = [
            nn.Sequential(
                nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
            )
            for _ in range(2)
        ]
        self.model = nn.ModuleDict({"layers": nn.ModuleList(blocks)})  # names inside hold ".layers."
        self.norm = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.embed_tokens.weight
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.ndim == 2:
                    weight.normal_(0, 0.1, generator=generator)
                elif name.endswith("bias"):
                    weight.zero_()

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        x = self.embed_tokens(tokens_BT)
        for layer in self.model["layers"]:
            x = x + layer(x)
        logits = self.lm_head(self.norm(x)).flatten(0, 1)
        return nn.functional.cross_entropy(logits.float(), targets_BT.flatten(), reduction="sum")
