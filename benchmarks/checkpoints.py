"""Checkpoints of a sharded training: each rank writes its share; rank 0 gathers and writes all; torch's own writer of shares, unsealed.

    torchrun --standalone --nproc-per-node 2 benchmarks/checkpoints.py [--layers 8 --width 640] [--sealed]

Prints for each way the bytes that each rank writes, seconds to save and to read back (the median of some), and the most memory that a rank
takes for it beyond what training holds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from shuyuan import vault
from shuyuan.data import Manifest
from shuyuan.data.manifest import TokenizerFacts
from shuyuan.hardware import detect
from shuyuan.progress import Stop
from shuyuan.recipe import from_table
from shuyuan.runs import Run
from shuyuan.train import joined, sharded, together
from shuyuan.train.checkpoints import Checkpoints
from shuyuan.train.framework import framework_of
from shuyuan.train.memory import forget_peak, peak_memory

REPEATS = 3
WAYS = ("shares", "rank 0", "torch")
PLACE = Path(tempfile.gettempdir()) / "shuyuan-benchmark-checkpoints"  # the same on all ranks
seen: dict[str, list[int]] = {}


def watched(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Notes the memory that some work takes beyond what there is before it; the first time fills what training would have filled."""

    def call(*given: Any, **options: Any) -> Any:
        forget_peak()
        before = peak_memory()
        found = work(*given, **options)
        seen.setdefault(f"{way()} {name}", []).append(peak_memory() - before)
        return found

    return call


def way() -> str:
    return (PLACE / "way").read_text() if (PLACE / "way").exists() else WAYS[0]


def write(self: Any, permit: vault.Permit) -> tuple[str, int]:
    """A rank's share; or the same through torch's writer, which leaves pickled metadata, beside an empty file of ours."""
    if way() != "torch":
        written: tuple[str, int] = own_write(self, permit)
        return written
    save(self._own_state(), storage_writer=FileSystemWriter(PLACE / "torch", overwrite=True))
    with permit.writer():
        pass
    return hashlib.sha256().hexdigest(), 0


own_write = sharded.ShardedBackend.write


def sizes(folder: Path) -> list[int]:
    return sorted((file.stat().st_size for file in folder.rglob("*") if file.is_file()), reverse=True)[:8]


def lead(options: argparse.Namespace) -> dict[str, Any]:
    model = {
        "layers": options.layers, "width": options.width, "heads": options.width // 64, "hidden": options.width * 8 // 3 // 32 * 32, "context": 32,
    }  # fmt: skip
    train = {
        "sharded": True, "steps": 4, "batch_size": 8, "micro_batch": 2, "precision": "fp32", "learning_rate": 0.01, "optimizer": "adamw", "weight_decay": 0.0,
    }  # fmt: skip
    recipe = from_table({"name": "checkpoints", "data": {"source": "stdlib"}, "model": model, "train": train})
    manifest = Manifest({}, 16_000, TokenizerFacts("byte", "", 0))
    found: dict[str, Any] = {}
    for name in WAYS:
        (PLACE / "way").write_text(name)

        run = Run(PLACE / f"run of {name}")
        key = "env:SHUYUAN_BENCHMARK_KEY" if options.sealed and name != "torch" else None
        run.path.mkdir()
        with vault.open_store(run, key, create=key is not None) as store:
            checkpoints = Checkpoints(store, {}, {}, keep=1)
            trained = framework_of(recipe).trainable(recipe, manifest)
            backend: Any = together.backend_of(recipe, manifest, trained, detect(), folder=run.path)
            assert backend.one_writer == (name == "rank 0")
            saving, reading, written = [], [], []
            for step in range(1, REPEATS + 1):
                begun = time.perf_counter()
                watched("saving, rank 0", checkpoints.save)(
                    step, {"step": step, "safe_step": step}, backend.state()
                )
                saving.append(time.perf_counter() - begun)
                written = sizes(PLACE / "torch" if name == "torch" else run.path / "checkpoints")
                if name == "torch":
                    continue
                begun = time.perf_counter()
                backend.load(checkpoints.load(step, backend.layout())[1])
                reading.append(time.perf_counter() - begun)
            state = sum(array.nbytes for array in backend.layout().values())
            found[name] = {"files": written, "save_seconds": round(statistics.median(saving), 3)}
            if reading:
                found[name]["read_seconds"] = round(statistics.median(reading), 3)
            backend.close()
        shutil.rmtree(run.path)
    return {"state_bytes": state, "parameters": backend.parameters} | found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--sealed", action="store_true")
    options = parser.parse_args()
    number = int(os.environ["RANK"])
    if number == 0:
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir()
        os.environ["SHUYUAN_BENCHMARK_KEY"] = vault.new_key()
    together.sees = lambda path: way() != "rank 0" and vault.sees(path)  # type: ignore[attr-defined]
    sharded.ShardedBackend.write = write  # type: ignore[method-assign]
    for method in ("write", "gathered", "read") if number else ():
        setattr(sharded.ShardedBackend, method, watched(method, getattr(sharded.ShardedBackend, method)))
    with joined(Stop()) as world:
        if world.number == 0:
            sys.stdout.write(json.dumps(lead(options), indent=1) + "\n")
    most = {name: max(each[len(each) // REPEATS :]) for name, each in seen.items()}
    sys.stdout.write(json.dumps({f"rank {number}, most memory beside training": most}) + "\n")


if __name__ == "__main__":
    main()
