"""One rank of several that train: `python -m tests.train.rank FOLDER`, with RANK and WORLD_SIZE as torchrun sets them.

Rank 0 writes what it saw to FOLDER/seen.npz. `scenes` is also run alone, as the one process to compare with.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from shuyuan.data import Manifest
from shuyuan.data.manifest import TokenizerFacts
from shuyuan.data.sources import ImageFacts
from shuyuan.privacy import Mechanism
from shuyuan.recipe import Recipe, from_table
from shuyuan.train import distributed
from shuyuan.train.backend import Batch
from shuyuan.train.distributed import Order, World
from shuyuan.train.framework import framework_of
from shuyuan.train.together import backend_of, follow

from .parts import OLD_CPU

Arrays = dict[str, NDArray[Any]]
STEPS, ROWS, CONTEXT, UNITS = 4, 7, 12, 9
CLIP, EXPECTED = 0.5, 2.0
TRAIN = {
    "steps": STEPS, "batch_size": 8, "micro_batch": 2, "precision": "fp32", "learning_rate": 0.05, "optimizer": "sgd", "weight_decay": 0.0,
}  # fmt: skip
TRANSFORMER = {"layers": 2, "width": 16, "heads": 2, "hidden": 32, "context": CONTEXT}


def recipe_of(model: dict[str, Any] | None = None, **tables: Any) -> Recipe:
    images = model is not None and model["family"] == "cnn"
    table = {
        "name": "ranks",
        "data": {"source": "digits" if images else "stdlib"},
        "model": model or TRANSFORMER,
    }
    if model is not None:
        table |= {"task": "classification", "data": table["data"] | {"labels": ["a", "b", "c"]}}
    return from_table(table | {"train": TRAIN | tables.pop("train", {})} | tables)


def manifest_of(recipe: Recipe) -> Manifest:
    labels = [] if recipe.task == "generation" else ["a", "b", "c"]
    if recipe.images:
        return Manifest({}, 0, None, labels=labels, image=ImageFacts(8, 8, 1))
    return Manifest({}, 50, TokenizerFacts("byte", "", 0), labels=labels)


def batch_of(recipe: Recipe, step: int, rows: int = ROWS) -> Batch:
    """Made-up rows, not all equally long; of private training some units, each with one or two rows, or none."""
    random = np.random.default_rng((step, 1))
    if recipe.images:
        return Batch(
            step, random.integers(0, 256, (rows, 1, 8, 8), np.uint8), random.integers(0, 3, (rows, 1))
        )
    unit_B = None
    if recipe.privacy is not None:
        units = (5, 0, 1, 4)[step - 1]  # of four ranks some have none, or all
        unit_B = np.repeat(np.arange(units), random.integers(1, 3, units))
        rows = len(unit_B)
    tokens = random.integers(1, 50, (rows, CONTEXT + 1))
    inputs, targets = tokens[:, :-1].copy(), tokens[:, 1:].copy()
    if recipe.task != "generation":
        return Batch(step, inputs, random.integers(0, 3, (rows, 1)))
    targets[: rows // 2, CONTEXT // 2 :] = -100  # ranks learn unequal numbers of targets
    return Batch(step, inputs, targets, unit_B)


def scene(recipe: Recipe, noise: float = 0.0, secret: bytes = bytes(32)) -> Arrays:
    """Gradients, figures and weights of a few steps; and of the last once more, from the state before it."""
    manifest, framework = manifest_of(recipe), framework_of(recipe)
    mechanism, rate = None, recipe.train.learning_rate
    if recipe.privacy is not None:
        clipping = recipe.privacy.clipping
        mechanism = Mechanism(UNITS, EXPECTED, STEPS, noise, CLIP, clipping, 1e-5)
    with framework.repeatable(1, 3, "fp32"):
        model = framework.trainable(recipe, manifest)
        # Without bf16: Muon's iterations would round by a hundredth, and differently on each kind of processor.
        backend: Any = backend_of(recipe, manifest, model, OLD_CPU, mechanism, secret)
        seen: Arrays = {}
        place = "0"

        def look(now: float) -> None:
            for number, weight in enumerate(optimizers.parameters()):
                seen[f"gradient/{place}/{number}"] = weight.grad.numpy().copy()
            stepped(now)

        optimizers = getattr(backend, "_own", backend)._optimizers
        stepped, optimizers.step = optimizers.step, look
        held_out = [replace(batch_of(recipe, step), unit_B=None) for step in (1, 3)]
        for step in range(1, STEPS + 1):
            place = str(step)
            if step == STEPS - 1:  # as training does between two steps
                seen["validation early"] = np.array(backend.evaluate(held_out))
            if step == STEPS:
                state = {name: array.copy() for name, array in backend.state().items()}
            figures = backend.step(batch_of(recipe, step), rate)
            told = (figures.loss, figures.gradient_norm, figures.tokens, figures.not_finite)
            seen[f"figures/{step}"] = np.array(told)
        state_now = backend.state()
        weights = {name: array.copy() for name, array in state_now.items() if name.startswith("weights.")}
        seen["validation"] = np.array(backend.evaluate(held_out))
        place = "again"
        backend.load(state)
        backend.step(batch_of(recipe, STEPS), rate)
        backend.close()
        final = {f"final/{name}": weight.detach().numpy().copy() for name, weight in model.named_parameters()}
    return seen | weights | final


def scenes() -> dict[str, Arrays]:
    private = {"privacy": {"noise_multiplier": 1.0, "unit": "record", "records_per_unit": 2, "clip": CLIP}}
    per_layer = {"privacy": private["privacy"] | {"clipping": "per-layer"}}
    muon = {"optimizer": "muon", "learning_rate": 0.002}
    sharded = {"sharded": distributed.world().count > 1}
    return {
        "text": scene(recipe_of()),
        "muon": scene(recipe_of(train=muon)),
        "images": scene(recipe_of({"family": "cnn"})),
        "sharded": scene(recipe_of(train=sharded)),
        "sharded muon": scene(recipe_of(train=sharded | muon)),
        "sharded private": scene(recipe_of(train=sharded, **private)),
        "sharded per layer": scene(recipe_of(train=sharded, **per_layer)),
        "sharded noise": scene(recipe_of(train=sharded, **private), noise=1.0),
        "dropped": scene(recipe_of({"family": "ngrams", "size": "tiny", "context": CONTEXT})),
        "private": scene(recipe_of(**private)),
        "per layer": scene(recipe_of(**per_layer)),
        "noise": scene(recipe_of(**private), noise=1.0),
    }


def write_scenes(folder: Path) -> None:
    seen = {f"{name}/{key}": array for name, found in scenes().items() for key, array in found.items()}
    np.savez(folder / "seen.npz", **seen)  # type: ignore[arg-type]


def main(folder: Path, lead: Callable[[], object]) -> None:
    """Rank 0 leads, and the others follow it to the end."""
    number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meeting", timedelta(seconds=300), world_size=count, rank=number
    )
    stop = threading.Event()
    ranks = World(number, count, stop, dist.new_group(backend="gloo"))
    distributed._joined.append(ranks)
    if number:
        follow(ranks)
        stop.set()
    else:
        lead()
        ranks.tell(Order("end"))
        assert not stop.is_set()
    ranks.total(0.0)
    (folder / f"stopped-{number}.json").write_text(json.dumps(stop.is_set()))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), lambda: write_scenes(Path(sys.argv[1])))
