"""`make_private` on several ranks: the same draws, sums and noise as on one, added once, and the same bits on each."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shuyuan.errors import PrivacyError
from shuyuan.privacy import make_private

from ..ranks import ROOT, start_ranks
from . import rank

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class World:
    """What each rank saw: rows by scene, step and physical batch; arrays by scene, kind and place; refusals."""

    rows: list[dict[str, list[list[list[int]]]]]
    arrays: list[Arrays]
    refusals: list[dict[str, str]]


def start(count: int, folder: Path) -> World:
    """Starts so many ranks; where one fails, the others are ended."""
    start_ranks("tests.privacy.rank", count, folder)
    told = [json.loads((folder / f"rank-{number}.json").read_text()) for number in range(count)]
    arrays = [dict(np.load(folder / f"rank-{number}.npz")) for number in range(count)]
    return World([each["rows"] for each in told], arrays, [each["refusals"] for each in told])


@pytest.fixture(
    scope="module",
    params=[2, pytest.param(4, marks=pytest.mark.slow)],
    ids=["2 ranks", "4 ranks"],
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return start(request.param, tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    return rank.scenes()


def gradients(arrays: Arrays, scene: str, step: int) -> list[np.ndarray[Any, Any]]:
    numbers = range(sum(name.startswith(f"{scene}/gradients/{step}/") for name in arrays))
    return [arrays[f"{scene}/gradients/{step}/{number}"] for number in numbers]


def test_every_rank_holds_the_same_bits(world: World) -> None:
    first = world.arrays[0]
    for other in world.arrays[1:]:
        assert other.keys() == first.keys()
        assert all(np.array_equal(array, other[name]) for name, array in first.items())


@pytest.mark.parametrize("scene", ["sums", "few"])
def test_the_draws_are_those_of_one_process_and_a_unit_lives_on_one_rank(
    world: World, alone: dict[str, dict[str, Any]], scene: str
) -> None:
    for step, parts in enumerate(alone[scene]["rows"]):
        shares = [[row for part in rows[scene][step] for row in part] for rows in world.rows]
        assert sorted(chain(*shares)) == sorted(chain(*parts))
        owners = [{row // 4 for row in share} for share in shares]
        assert sum(map(len, owners)) == len(set.union(*owners))
        assert max(map(len, owners)) - min(map(len, owners)) <= 1  # the work is divided
        assert all(len(part) <= 4 for rows in world.rows for part in rows[scene][step])


def test_a_rank_without_units_steps_all_the_same(world: World) -> None:
    """The scene has steps in which one rank has units and another has none, and steps without any."""
    sizes = [[len(rows["few"][step]) for rows in world.rows] for step in range(12)]
    assert any(min(each) == 0 < max(each) for each in sizes) and any(max(each) == 0 for each in sizes)
    assert len([name for name in world.arrays[0] if name.startswith("few/gradients/11/")]) == 4


@pytest.mark.parametrize("scene", ["sums", "per layer", "noisy"])
def test_sums_are_those_of_one_process_to_the_rounding_of_float32(
    world: World, alone: dict[str, dict[str, Any]], scene: str
) -> None:
    """Units are added up in another order: a few units in the last place of a clip, and nothing more."""
    for one, many in zip(alone[scene]["gradients"][0], gradients(world.arrays[0], scene, 0), strict=True):
        assert np.abs(one.numpy() - many).max() < 8 * 2**-24 * rank.CLIP
        assert np.abs(many).max() > 1e-3
    for number, weight in enumerate(alone[scene]["weights"]):
        assert np.allclose(weight.numpy(), world.arrays[0][f"{scene}/weights/{number}"], atol=1e-4)


def test_the_noise_is_that_of_one_process_bit_for_bit(world: World, alone: dict[str, dict[str, Any]]) -> None:
    for step in range(2):
        many = gradients(world.arrays[0], "noise", step)
        for one, other in zip(alone["noise"]["gradients"][step], many, strict=True):
            assert np.array_equal(one.numpy(), other)


def test_the_noise_over_all_ranks_has_the_deviation_once(world: World) -> None:
    """σ · C; not W · σ · C, which each rank's own copy of one noise would give, nor σ · C · √W or σ · C / √W."""
    for scene in ("noise", "secret"):
        for each in gradients(world.arrays[-1], scene, 1):
            noise = each.astype(np.float64) * rank.NOBODY / (rank.NOISE * rank.CLIP)
            if noise.size > 1000:
                assert abs(noise.std() - 1) < 5 / math.sqrt(2 * noise.size)


def test_the_secret_is_one_for_all_ranks_and_nobody_elses(world: World) -> None:
    seeded, secret = (gradients(world.arrays[0], scene, 0)[2] for scene in ("noise", "secret"))
    assert not np.array_equal(seeded, secret)  # that all ranks hold the same is looked at above


def test_with_the_one_secret_a_unit_is_drawn_on_one_rank_alone(world: World) -> None:
    """Ranks with secrets of their own would draw units twice, and share the work unevenly, in twelve steps surely."""
    for step in range(12):
        owners = [{row // 4 for part in rows["drawn"][step] for row in part} for rows in world.rows]
        assert sum(map(len, owners)) == len(set.union(*owners))
        assert max(map(len, owners)) - min(map(len, owners)) <= 1


@pytest.mark.parametrize("what", ["weights", "units", "owners", "settings"])
def test_ranks_that_begin_with_other_things_are_refused_on_every_rank(world: World, what: str) -> None:
    for told in world.refusals:
        named = "units" if what == "owners" else what
        assert told[what].startswith(f"{named}: Rank 1 begins with other {named}")
        assert "privacy.other-rank" in told[what]


@pytest.mark.parametrize("how", ["ddp", "ddp inside", "fsdp", "fsdp2"])
def test_a_model_that_averages_gradients_by_itself_is_refused(world: World, how: str) -> None:
    for told in world.refusals:
        assert ("Distributed" if how.startswith("ddp") else "FSDP") in told[how] or "FullySharded" in told[
            how
        ]
        assert "wrapped.module" in told[how] and "privacy.wrapped-model" in told[how]


def test_a_model_that_splits_rows_over_devices_is_refused() -> None:
    model = nn.DataParallel(nn.Linear(3, 3))
    with pytest.raises(PrivacyError, match="DataParallel"):
        make_private(
            model,
            torch.optim.SGD(model.parameters(), 0.1),
            units=9,
            expected_batch=2,
            steps=1,
            noise_multiplier=1,
        )


@pytest.mark.slow
def test_under_torchrun(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "-m", "tests.privacy.rank", str(tmp_path)],
        cwd=ROOT, env=dict(os.environ, OMP_NUM_THREADS="1"), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rank-1.npz").exists()
