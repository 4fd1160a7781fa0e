"""A run folder made by hand, as the other rooms would leave it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shuyuan.runs import Run
from shuyuan.vault import OpenStore

RECIPE = """\
name = "demo"
seed = 7

[data]
source = "stdlib"
mask = ["email", "phone"]

[train]
budget = "2 min"
steps = 400
batch_size = 16
micro_batch = 16
precision = "bf16"
learning_rate = 0.02
{extra}
[resolved]
machine = "Example CPU, 2 cores"
date = "2026-01-02"
data_fingerprint = "00ff"

[resolved.versions]
shuyuan = "0.1.0"
torch = "2.13.0"
"""
PLAN = {
    "parameters": 5_310_000, "train_flops": 5.3e13, "tokens": 1_638_400, "price": None, "fits": True, "privacy": None,
    "peak_bytes": {"low": 700 << 20, "expected": 760 << 20, "high": 840 << 20},
    "seconds": {"low": 100, "expected": 120, "high": 144}, "storage_bytes": 93 << 20,
    "advice": [], "notes": ["Tokens are guessed from the first 777 records."], "items": {"weights": 21 << 20, "activations": 500 << 20},
    "time_items": {"start": 0.0, "steps": 110.0, "evaluations": 8.5, "checkpoints": 1.5},
    "measured": {"seconds": 127.4, "peak_bytes": 790 << 20, "storage_bytes": 95 << 20},
}  # fmt: skip
MANIFEST = {
    "splits": {
        "train": {"records": 4210, "owners": 4210, "tokens": 9_876_543, "text_bytes": 31 << 20, "shards": []},
        "validation": {"records": 467, "owners": 467, "tokens": 1_012_345, "text_bytes": 3 << 20, "shards": []},
    },
    "vocab_size": 4096, "tokenizer": {"kind": "bpe", "sha256": "00", "end_id": 0}, "changed": 45, "masked": {"email": 321, "phone": 0}, "duplicates": {"exact": 12, "near": 88},
    "skipped": {"empty records": 9, "empty files": 3}, "seconds": 14.2,
}  # fmt: skip
SCORES = {
    "generation": {
        "original": {
            "validation.loss": 3.2167, "validation.perplexity": 24.95, "validation.bits_per_byte": 1.523,
            "validation.bigram_loss": 4.4321,
        }
    }
}  # fmt: skip
SAMPLES = [
    {"prompt": "def main(", "text": "self):\n    return self.value\n", "seed": 7, "temperature": 0.8},
    {"prompt": "The module", "text": " provides 名字 and 😀 emoji.", "seed": 8, "temperature": 0.8},
]


def step_lines(first: int, last: int, *, total: int = 400) -> list[dict[str, Any]]:
    """Metrics lines of training steps with a falling, noisy loss."""
    lines: list[dict[str, Any]] = []
    for step in range(first, last + 1):
        rate = 0.02 * min(1, step / 8) * min(1, (total - step + 1) / (0.4 * total))
        loss = 3.1 + 5.2 * math.exp(-step / 25) + 0.12 * math.sin(step * 12.9898)
        lines.append(
            {"event": "train.step", "time": 1e9 + step, "step": step, "loss": loss, "learning_rate": rate,
             "gradient_norm": 1.0, "tokens": step * 4096, "tokens_per_second": 13000 + 400 * math.sin(step),
             "seconds": step * 0.31, "peak_bytes": (770 << 20) + min(step, 60) * (1 << 18)}
        )  # fmt: skip
        if step % 40 == 0:
            lines.append({"event": "train.validation", "time": 1e9 + step, "step": step, "loss": loss + 0.1})
    return lines


def start_line(step: int = 0, *, resumed: bool = False) -> dict[str, Any]:
    """The line with which training begins or goes on."""
    return {"event": "train.start", "time": 1e9, "step": step, "steps": 400, "parameters": 5_312_256,
            "tokens_per_step": 4096, "precision": "bf16", "device": "cpu", "resumed": resumed}  # fmt: skip


END = {"event": "train.end", "time": 1e9 + 401, "step": 400, "loss": 3.11, "validation_loss": 3.2167, "seconds": 127.4, "waited_seconds": 0.637,
       "tokens": 1_638_400, "peak_bytes": 790 << 20}  # fmt: skip
NOTICE = {
    "event": "notice",
    "time": 1e9,
    "code": "data.skipped",
    "text": "12 records were skipped: 9 empty, 3 files.",
}


class SealedLike(OpenStore):
    """Says that it is sealed, and remembers what was read."""

    sealed = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads: list[str] = []

    def open(self, name: str) -> Any:
        self.reads.append(name)
        return super().open(name)

    def journal(self, name: str) -> Any:
        self.reads.append(name)
        return super().journal(name)


Made = tuple[Run, OpenStore]
MakeRun = Callable[..., Made]


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    """Makes a run that is complete but for the parts named in `without`; `changed` replaces whole files."""

    monkeypatch.setenv("SHUYUAN_HOME", str(tmp_path / "shuyuan"))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power cut is tested here, and it costs seconds

    def make(
        *, without: tuple[str, ...] = (), changed: dict[str, Any] | None = None, sealed: bool = False, extra: str = "",
        recipe: str | None = None, folder: str = "demo",
    ) -> Made:  # fmt: skip
        path = tmp_path / folder
        path.mkdir()
        if sealed:
            extra += '\n[vault]\nkey = "env:KEY"\n'
        (path / "recipe.toml").write_text(recipe or RECIPE.format(extra=extra), encoding="utf-8")
        store = SealedLike(path) if sealed else OpenStore(path)
        metrics = [NOTICE, start_line(), *step_lines(1, 400), END]
        files: dict[str, Any] = {
            "plan.json": PLAN, "data/manifest.json": MANIFEST, "metrics.jsonl": metrics, "scores.json": SCORES,
            "samples.json": SAMPLES, "model/config.json": {}, "model/model.safetensors": "0" * 1000,
            "checkpoints/step-00000400/state.json": {},
        } | (changed or {})  # fmt: skip
        for name, content in files.items():
            if not name.startswith(without or "\0"):
                _put(store, name, content)
        if isinstance(store, SealedLike):
            store.reads.clear()
        return Run(path), store

    return make


def _put(store: OpenStore, name: str, content: Any) -> None:
    if name.endswith(".jsonl"):
        log = store.journal(name)
        for line in content:
            log.append(line)
    elif isinstance(content, str):
        store.write(name, content.encode())
    else:
        store.write(name, json.dumps(content).encode())
