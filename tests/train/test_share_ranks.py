"""Ranks that write and read their shares of checkpoints: the same bits with as many of them, the same state with others, and kills."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shuyuan.progress import Progress
from shuyuan.train.together import Leading
from shuyuan.train.training import say_who_writes

from ..ranks import start_ranks
from .share_rank import Seen, Training, checkpoints_in, go_on, same

SHARES = ["share-00000.safetensors", "share-00001.safetensors", "state.json"]


def start(folder: Path, count: int, **task: Any) -> tuple[Seen, dict[str, Any]]:
    """So many ranks that do something in the run beside."""
    here = folder / f"start-{len(list(folder.iterdir()))}"
    here.mkdir()
    (here / "task.json").write_text(json.dumps({"do": "go on"} | task))
    start_ranks("tests.train.share_rank", count, here)
    return dict(np.load(here / "seen.npz")), json.loads((here / "told.json").read_text())


def at(seen: Seen, when: str) -> Seen:
    return {name.removeprefix(when): array for name, array in seen.items() if name.startswith(when)}


def test_two_ranks_write_their_shares_and_go_on_from_them_to_the_same_bits(tmp_path: Path) -> None:
    told = start(tmp_path, 2, do="tried")[1]
    assert told["files"] == SHARES
    assert told["read"] and told["again"]
    assert "share-00001" in told["refused"] and "train.damaged-checkpoint" in told["refused"]
    assert told["mended"]
    assert "share-00001" in told["full"] and "No space left on device" in told["full"]
    assert told["left"] == ["step-00000002"]
    assert told["one writer"] and told["read by one"]
    assert told["files of one"] == ["arrays-00000.safetensors", "state.json"]


@pytest.mark.parametrize("one_writer", [True, False])
def test_a_run_says_once_that_one_rank_writes_for_all(one_writer: bool) -> None:
    backend = object.__new__(Leading)
    backend.one_writer = one_writer
    said: list[str] = []

    class Heard(Progress):
        def say(self, code: str, text: str) -> None:
            said.append(f"{code}: {text}")

    say_who_writes(backend, Heard())
    assert [line.partition(":")[0] for line in said] == ["train.one-writer"] * one_writer


@pytest.mark.slow
def test_any_number_of_ranks_goes_on_from_the_state_that_others_left(tmp_path: Path) -> None:
    two = start(tmp_path, 2, steps=2)[0]
    four = start(tmp_path, 4, steps=1)[0]
    assert same(at(four, "before/"), at(two, "after/")) and not same(at(four, "after/"), at(two, "after/"))
    assert len(list((tmp_path / "run/checkpoints/step-00000003").glob("share-*"))) == 4
    again = start(tmp_path, 2, steps=1)[0]
    assert same(at(again, "before/"), at(four, "after/"))
    (tmp_path / "alone").mkdir()
    alone = go_on(tmp_path / "alone", 1)[0]
    assert same(at(alone, "before/"), at(again, "after/"))
    assert (tmp_path / "run/checkpoints/step-00000005/arrays-00000.safetensors").exists()
    once_more = start(tmp_path, 2, steps=1)[0]
    assert same(at(once_more, "before/"), at(alone, "after/"))
    whole = go_on_alone(tmp_path, 6)
    for name, array in at(once_more, "after/").items():
        assert np.allclose(array, whole[name], atol=1e-4) or name == "random.cpu", name


def go_on_alone(folder: Path, steps: int) -> Seen:
    """What one process comes to, without any checkpoint."""
    training = Training(folder / "undisturbed")
    training.go(steps)
    return training.state()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_killed_while_shares_are_written_the_former_checkpoint_is_used(tmp_path: Path, rank: int) -> None:
    first = start(tmp_path, 2, steps=2)[0]
    with pytest.raises(AssertionError):
        start(tmp_path, 2, steps=2, dies=rank)
    checkpoints = checkpoints_in(tmp_path / "run")
    assert checkpoints.steps() == [2]
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-00000002"]
    resumed = start(tmp_path, 2, steps=2)[0]
    assert same(at(resumed, "before/"), at(first, "after/"))
    (tmp_path / "other").mkdir()
    undisturbed = start(tmp_path / "other", 2, steps=4)[0]
    assert same(at(resumed, "after/"), at(undisturbed, "after/"))
