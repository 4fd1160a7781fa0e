"""The command under torchrun, and what befalls it: a rank killed in a step, a request to stop, another number of ranks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from ..runs import write_recipe
from .test_training import last_checkpoint, weights

pytestmark = pytest.mark.slow
PATIENCE = 600  # seconds, on a machine that has other things to do
STEPS = 60
running: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """torchrun ends its ranks when it is asked to."""
    yield
    while running:
        process = running.pop()
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=PATIENCE)


def started(recipe: Path, out: Path, ranks: int = 2, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={ranks}",
        *options,
    ]
    running.append(
        subprocess.Popen(
            [*command, "-m", "shuyuan", "train", str(recipe), "--out", str(out)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    )
    return running[-1]


def ended(process: subprocess.Popen[str]) -> str:
    """What it said on its way; it must end by itself."""
    _, errors = process.communicate(timeout=PATIENCE)
    return errors


def newest(out: Path) -> int:
    """The step of the newest checkpoint."""
    return max(
        (int(path.parent.name[5:]) for path in out.glob("checkpoints/step-????????/state.json")), default=-1
    )


def wait_for_step(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until there is a checkpoint of that step, or a later one."""
    until = time.monotonic() + PATIENCE
    while newest(out) < step:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)


def pid_of_rank(number: int, agent: subprocess.Popen[str]) -> int:
    """The process of a rank that torchrun started, by its environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            child = int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == agent.pid
            if child and f"RANK={number}\0" in (folder / "environ").read_text().replace("_RANK=", "_"):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"there is no rank {number}")


def events(out: Path, name: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == name]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("torchrun"), steps=STEPS)


@pytest.fixture(scope="module")
def whole(recipe: Path) -> Path:
    """A run of two ranks that nothing befell."""
    out = recipe.parent / "whole"
    process = started(recipe, out)
    errors = ended(process)
    assert process.returncode == 0, errors
    return out


def test_a_killed_rank_ends_the_job_and_torchrun_brings_it_to_the_same_bits(
    recipe: Path, whole: Path
) -> None:
    out = recipe.parent / "killed"
    process = started(recipe, out, 2, "--max-restarts=2")
    wait_for_step(out, 10, process)
    os.kill(pid_of_rank(1, process), signal.SIGKILL)
    errors = ended(process)
    assert process.returncode == 0, errors
    assert "Rank 0 of 2 has lost the others" in errors and "train.rank-lost" in errors
    assert [line["resumed"] for line in events(out, "train.start")] == [False, True]
    assert weights(out) == weights(whole) and last_checkpoint(out) == last_checkpoint(whole)


def test_a_rank_of_a_private_sharded_training_is_killed_and_the_bits_and_the_ledger_stay(
    tmp_path: Path,
) -> None:
    """The noise of a step that is made again is the noise that it had."""
    recipe = write_recipe(
        tmp_path,
        steps=STEPS,
        data='duplicates = "keep"',
        train='sharded = true\noptimizer = "adamw"',
        privacy='noise_multiplier = 1.0\nunit = "record"\ninsecure_seed = 7',
    )
    whole, out = tmp_path / "whole", tmp_path / "killed"
    errors = ended(started(recipe, whole))
    assert (whole / "model").exists(), errors
    process = started(recipe, out, 2, "--max-restarts=2")
    wait_for_step(out, 10, process)
    os.kill(pid_of_rank(1, process), signal.SIGKILL)
    errors = ended(process)
    assert process.returncode == 0, errors
    assert "Rank 0 of 2 has lost the others" in errors
    assert [line["resumed"] for line in events(out, "train.start")] == [False, True]
    assert weights(out) == weights(whole) and last_checkpoint(out) == last_checkpoint(whole)


def test_asked_to_stop_all_end_after_one_step_and_go_on_from_it(recipe: Path, whole: Path) -> None:
    out = recipe.parent / "stopped"
    process = started(recipe, out)
    wait_for_step(out, 10, process)
    process.terminate()
    errors = ended(process)
    assert process.returncode not in (0, None) and "train.interrupted" in errors, errors
    assert "train.rank-lost" not in errors
    step = newest(out)
    assert f"interrupted after step {step} of {STEPS}" in errors
    again = started(recipe, out)
    errors = ended(again)
    assert again.returncode == 0, errors
    assert [line["step"] for line in events(out, "train.start")] == [0, step]
    assert weights(out) == weights(whole) and last_checkpoint(out) == last_checkpoint(whole)


def test_another_number_of_ranks_goes_on_and_says_so(recipe: Path, whole: Path) -> None:
    out = recipe.parent / "other"
    process = started(recipe, out)
    wait_for_step(out, 10, process)
    process.terminate()
    ended(process)
    again = started(recipe, out, 4)
    errors = ended(again)
    assert again.returncode == 0, errors
    assert "2 ranks on" in errors and "4 ranks on" in errors
    assert [line["ranks"] for line in events(out, "train.start")] == [2, 4]
    one, other = (events(path, "train.end")[0] for path in (whole, out))
    assert abs(one["validation_loss"] - other["validation_loss"]) < 0.01
    found, wanted = (safetensors.numpy.load(weights(path)) for path in (out, whole))
    assert all(np.abs(found[name] - array).max() < 0.05 for name, array in wanted.items())
