"""One rank of a sharded training whose rank 0 looks at its memory: `python -m tests.train.memory_rank FOLDER`, as in rank.py.

Rank 0 writes to FOLDER/seen.json the bytes that it held, or held more, at some points.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from shuyuan.recipe import from_table
from shuyuan.train import checkpoints as module
from shuyuan.train import sharded  # noqa: F401  # what it loads is not its own
from shuyuan.train.checkpoints import Checkpoints
from shuyuan.train.framework import framework_of
from shuyuan.train.memory import forget_peak, give_back, peak_memory
from shuyuan.train.together import backend_of
from shuyuan.vault import OpenStore

from . import rank
from .parts import CPU

MODEL = {"layers": 12, "width": 384, "heads": 4, "hidden": 1024, "context": rank.CONTEXT}
PART_BYTES = 4 << 20


def resident() -> int:
    """Bytes now."""
    give_back()
    forget_peak()
    return peak_memory()


def seen(folder: Path) -> dict[str, Any]:
    module.PART_BYTES = PART_BYTES
    train = rank.TRAIN | {"sharded": True, "optimizer": "adamw"}
    recipe = from_table({"name": "memory", "data": {"source": "stdlib"}, "model": MODEL, "train": train})
    manifest, framework = rank.manifest_of(recipe), framework_of(recipe)
    checkpoints = Checkpoints(OpenStore(folder / "run"), {"seed": 1}, {}, keep=1)
    empty = resident()
    model = framework.trainable(recipe, manifest)
    weights = {name: weight.detach().numpy().copy() for name, weight in model.named_parameters()}
    found: dict[str, Any] = {"model": sum(array.nbytes for array in weights.values())}
    del weights
    backend = backend_of(recipe, manifest, model, CPU)
    begun = resident()
    found["held"] = begun - empty
    found["state"] = sum(array.nbytes for array in backend.layout().values())
    checkpoints.save(0, {"safe_step": 0}, backend.state())
    found["saving"] = peak_memory() - begun
    _, arrays = checkpoints.load(0, backend.layout())
    before = resident()
    backend.load(arrays)
    found["loading"] = peak_memory() - before
    del arrays
    first, again = backend.state(), checkpoints.load(0, backend.layout())[1]
    found["same"] = all(np.array_equal(first[name], again[name]) for name in first)
    backend.close()
    found["whole"] = all(weight.numel() > 0 for weight in model.parameters())
    return found


def main(folder: Path) -> None:
    rank.main(folder, lambda: (folder / "seen.json").write_text(json.dumps(seen(folder))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
