"""Private training in shares, on the one rank of a group: what several do, without the others (those stand in test_distributed)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist

from shuyuan.models import Transformer
from shuyuan.privacy import Mechanism
from shuyuan.train import with_torch
from shuyuan.train.distributed import World

from .parts import CPU
from .rank import CLIP, EXPECTED, STEPS, UNITS, batch_of, manifest_of, recipe_of


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[World]:
    dist.init_process_group("gloo", f"file://{tmp_path}/meeting", world_size=1, rank=0)
    yield World(0, 1)
    dist.destroy_process_group()


def backend(ranks: World, *, sharded: bool, precision: str = "fp32", clipping: Any = "joint") -> Any:
    privacy = {"noise_multiplier": 1.0, "records_per_unit": 2, "clip": CLIP, "clipping": clipping}
    train = {"sharded": sharded, "precision": precision, "batch_size": 16, "micro_batch": 16}
    recipe = recipe_of(train=train, privacy=privacy)
    mechanism = Mechanism(UNITS, EXPECTED, STEPS, 1.0, CLIP, clipping, 1e-5)
    model = with_torch.trainable(recipe, manifest_of(recipe))
    made = with_torch.private_backend(model, recipe.train, CPU, mechanism, bytes(32), ranks)
    made.agree()
    return made


@pytest.mark.parametrize("clipping", ["joint", "per-layer"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_are_those_of_a_training_that_is_not_sharded(
    alone: World, precision: str, clipping: str
) -> None:
    """Bit for bit, where a step is one physical batch of one rank, and nothing is added up; also in half precision."""
    both = [
        backend(alone, sharded=sharded, precision=precision, clipping=clipping) for sharded in (True, False)
    ]
    batches = [batch_of(recipe_of(privacy={"noise_multiplier": 1.0}), step) for step in range(1, STEPS + 1)]
    for batch in batches:
        found, wanted = (each.step(batch, 0.05) for each in both)
        assert found.tokens == wanted.tokens and np.isclose(found.gradient_norm, wanted.gradient_norm)
    found, wanted = (each.state() for each in both)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert np.array_equal(found[name], wanted[name]), name


def test_a_weight_that_no_clip_sees_is_no_step(alone: World, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Transformer.losses

    def more(self: Transformer, *given: Any) -> Any:
        return losses(self, *given) + self.lm_head.weight.sum()

    monkeypatch.setattr(Transformer, "losses", more)
    with pytest.raises(RuntimeError, match="no clip sees it"):
        backend(alone, sharded=True).step(batch_of(recipe_of(privacy={"noise_multiplier": 1.0}), 1), 0.05)
