"""Models that no test machine holds: how they lie over many devices, on torch's device without memory, and whether the plan says the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from shuyuan import pipeline
from shuyuan.hardware import machines
from shuyuan.models import Transformer, transformer
from shuyuan.progress import Progress
from shuyuan.recipe import Recipe, from_table
from shuyuan.train.distributed import World
from shuyuan.train.optimizers import Optimizers
from shuyuan.train.parts import config_of
from shuyuan.train.sharded import Shares, divided

from .rank import manifest_of

SEVEN: dict[str, Any] = {"layers": 32, "width": 4096, "hidden": 11008, "context": 2048}
LARGEST: dict[str, Any] = {"layers": 96, "width": 12288, "heads": 96, "hidden": 32768, "context": 2048}


def recipe_of(model: dict[str, Any], optimizer: str) -> Recipe:
    train = {
        "budget": "10B tokens",
        "batch_size": 2048,
        "micro_batch": 1,
        "optimizer": optimizer,
        "sharded": True,
    }
    table = {"data": {"source": "hf:org/text"}, "tokenizer": {"kind": "bpe", "vocab_size": 32_000}}
    return from_table(table | {"model": model, "train": train})


@contextmanager
def pretended(rank: int, count: int) -> Iterator[World]:
    """One rank of so many, whose calls to the others are answered by nobody."""
    dist.init_process_group("fake", rank=rank, world_size=count, store=FakeStore())  # type: ignore[no-untyped-call]
    try:
        yield World(rank, count)
    finally:
        dist.destroy_process_group()


def shares_of(recipe: Recipe, rank: int, count: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes of weights and of the optimizer's state of one rank; parameters of all."""
    monkeypatch.setattr(transformer, "init_weights", lambda *_: None)
    manifest = manifest_of(recipe)
    object.__setattr__(manifest, "vocab_size", 32_000)
    with torch.device("meta"):
        model = Transformer(config_of(recipe, manifest), 0)  # type: ignore[arg-type]
    with pretended(rank, count) as ranks:
        shares = Shares(divided(model, "cpu"), ranks)
        train = recipe.train
        assert train.optimizer != "auto"
        optimizers = Optimizers(shares, train.optimizer, 0.1, whole=shares)
        return {
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "weights": sum(weight.nbytes for _, weight in shares.named_parameters()),
            "optimizer": sum(tensor.nbytes for tensor in optimizers.tensors().values()),
        }


@pytest.mark.parametrize(
    ("model", "on", "count"),
    [(SEVEN, "h100:8", 8), pytest.param(LARGEST, "a100-80g:128x8", 1024, marks=pytest.mark.slow)],
    ids=["7 billion on 8", "175 billion on 1,024"],
)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_each_rank_holds_what_the_plan_says(
    model: dict[str, Any], on: str, count: int, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(model, optimizer)
    plan = pipeline.plan_for(recipe, None, Progress(), machines(on))
    for rank in (0, count - 1):
        found = shares_of(recipe, rank, count, monkeypatch)
        assert found["parameters"] == plan["parameters"]
        assert found["weights"] == pytest.approx(plan["items"]["weights"], rel=0.01)
        assert found["optimizer"] == pytest.approx(plan["items"]["optimizer"], rel=0.01)
        gradients = plan["items"].get(
            "gradients", found["weights"]
        )  # none, where the plan's highest point comes before them
        assert found["weights"] == pytest.approx(gradients, rel=0.01)
