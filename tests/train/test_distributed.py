"""Training on several ranks: what one process computes from the same rows, added up once, to the rounding of float32."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shuyuan.errors import MachineError, TrainError
from shuyuan.hardware import facts
from shuyuan.progress import Stop
from shuyuan.recipe import from_table
from shuyuan.train import check_ranks, distributed, joined
from shuyuan.train.backend import Batch
from shuyuan.train.distributed import World, check_sharded, meet, share
from shuyuan.train.sharded import ShardedBackend

from ..ranks import start_ranks
from . import rank

Arrays = dict[str, NDArray[Any]]
WHOLE = [
    "text",
    "muon",
    "images",
    "private",
    "per layer",
    "noise",
]  # of "dropped", what is left out is another's
SHARDED = ["sharded", "sharded muon", "sharded private", "sharded per layer", "sharded noise"]
SCENES = [*WHOLE, *SHARDED]


def start(count: int, folder: Path) -> Arrays:
    """Starts so many ranks, and gives what rank 0 saw; where one fails, the others are ended."""
    start_ranks("tests.train.rank", count, folder)
    assert all((folder / f"stopped-{number}.json").read_text() == "true" for number in range(count))
    return dict(np.load(folder / "seen.npz"))


@pytest.fixture(
    scope="module",
    params=[2, pytest.param(4, marks=pytest.mark.slow)],
    ids=["2 ranks", "4 ranks"],
)
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    return start(request.param, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def one() -> dict[str, Arrays]:
    return rank.scenes()


def of_scene(many: Arrays, scene: str) -> Arrays:
    return {
        name.removeprefix(scene + "/"): array for name, array in many.items() if name.startswith(scene + "/")
    }


@pytest.mark.parametrize("scene", WHOLE)
def test_gradients_are_those_of_one_process_to_the_rounding_of_float32(
    many: Arrays, one: dict[str, Arrays], scene: str
) -> None:
    """At the first step, before differences of rounding have been learned from. Every private step but the last has weights that others led to."""
    found, wanted = of_scene(many, scene), one[scene]
    assert found.keys() == wanted.keys()
    first = [name for name in wanted if name.startswith("gradient/1/")]
    largest = max(float(np.abs(wanted[name]).max()) for name in first)
    assert largest > 1e-3
    for name in first:
        assert np.abs(found[name] - wanted[name]).max() < 1e-5 * largest, name


@pytest.mark.parametrize("scene", SCENES)
def test_figures_and_weights_are_those_of_one_process(
    many: Arrays, one: dict[str, Arrays], scene: str
) -> None:
    found, wanted = of_scene(many, scene), one[scene]
    for step in range(1, rank.STEPS + 1):
        assert np.allclose(found[f"figures/{step}"], wanted[f"figures/{step}"], rtol=1e-4, equal_nan=True)
    for when in ("validation early", "validation"):
        assert np.allclose(found[when], wanted[when], rtol=1e-4)
    for name, array in wanted.items():
        if name.startswith(("weights.", "final/")):
            assert np.allclose(found[name], array, atol=1e-4), name


@pytest.mark.slow
def test_rank_0_holds_its_share_and_writes_a_tensor_at_a_time(tmp_path: Path) -> None:
    """Never the model, nor a checkpoint, which is three times as large; read back it is the same."""
    start_ranks("tests.train.memory_rank", 2, tmp_path)
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["state"] == pytest.approx(3 * seen["model"], rel=0.01)
    assert seen["held"] < seen["state"] / 2 + 0.8 * seen["model"]
    assert seen["saving"] < seen["state"] / 4 and seen["loading"] < seen["state"] / 4
    assert seen["same"] and seen["whole"]


def test_a_rank_holds_its_rows_alone(many: Arrays, one: dict[str, Arrays]) -> None:
    """Of each gradient, with what the optimizer keeps for it: a share, and no more."""
    for scene in SHARDED:
        for name, array in one[scene].items():
            if name.startswith("gradient/1/"):
                ranks = len(array) / len(many[f"{scene}/{name}"])
                assert ranks >= 2 and many[f"{scene}/{name}"].shape[1:] == array.shape[1:]
                assert np.allclose(many[f"{scene}/{name}"], array[: len(many[f"{scene}/{name}"])], atol=1e-6)


@pytest.mark.parametrize("scene", ["noise", "private", "sharded noise", "sharded private"])
def test_a_step_without_any_unit_is_made_by_all(many: Arrays, one: dict[str, Arrays], scene: str) -> None:
    """Its gradient is noise alone, added once: that of one process bit for bit; and nothing without noise."""
    found, wanted = of_scene(many, scene), one[scene]
    names = [name for name in wanted if name.startswith("gradient/2/")]
    assert names and all(np.array_equal(found[name], wanted[name][: len(found[name])]) for name in names)
    assert any(found[name].any() for name in names) == ("noise" in scene)


@pytest.mark.parametrize("scene", [*SCENES, "dropped"])
def test_a_step_made_again_from_a_state_has_the_same_bits(many: Arrays, scene: str) -> None:
    """Also where a rank leaves something out at random: that follows from step and rank."""
    found = of_scene(many, scene)
    names = [name for name in found if name.startswith("gradient/again/")]
    assert names
    for name in names:
        assert np.array_equal(found[name], found[name.replace("again", str(rank.STEPS))])


# ---- shares ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 3), max_size=9), st.integers(1, 5), st.booleans())
def test_each_row_falls_to_one_rank_and_each_unit_whole(sizes: list[int], count: int, private: bool) -> None:
    unit_B = np.repeat(np.arange(len(sizes)), sizes)
    row_B = np.arange(len(unit_B))
    batch = Batch(1, np.stack([row_B, row_B], 1), row_B[:, None], unit_B if private else None)
    shares = [share(batch, number, count) for number in range(count)]
    assert sorted(row for part in shares for row in part.targets_BT[:, 0]) == row_B.tolist()
    assert all(np.array_equal(part.inputs_BT[:, :1], part.targets_BT) for part in shares)
    if private:
        owners = [unit_B[part.targets_BT[:, 0]] for part in shares]
        assert sum(len(set(each)) for each in owners) == len(sizes)
        for part, each in zip(shares, owners, strict=True):
            assert part.unit_B is not None
            assert part.unit_B.tolist() == np.unique(each, return_inverse=True)[1].tolist()
    sizes_of = [len(set(part.unit_B)) if part.unit_B is not None else len(part.targets_BT) for part in shares]
    assert max(sizes_of) - min(sizes_of) <= 1


def test_processes_on_one_machine_share_its_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_cores", lambda _: 9)
    monkeypatch.setattr(facts, "_memory", lambda _: 8 << 30)
    monkeypatch.setattr(facts, "torch_is_cpu_only", lambda: True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    machine = facts.detect.__wrapped__()
    assert (machine.cores, machine.memory_bytes) == (2, 2 << 30)


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_joined", [World(0, 8)])


@pytest.mark.usefixtures("eight")
def test_what_one_process_alone_can_train_is_refused() -> None:
    rank_8 = {"batch_size": 8, "micro_batch": 8}
    check_ranks(rank.recipe_of(train=rank_8))
    with pytest.raises(TrainError, match="7 rows, and there are 8 ranks"):
        check_ranks(rank.recipe_of(train={"batch_size": 7, "micro_batch": 7}))
    check_ranks(rank.recipe_of(train={"batch_size": 7, "micro_batch": 7}, privacy={"epsilon": 3.0}))
    recurrent = from_table({"name": "ranks", "data": {"source": "stdlib"}, "model": {"family": "rnn"}})
    with pytest.raises(TrainError, match="family rnn is trained by one process, and there are 8"):
        check_ranks(recurrent)


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ({"model": {"family": "cnn"}}, "begun from nothing"),
        ({"model": {"family": "ngrams", "size": "tiny"}}, "begun from nothing"),
        ({"train": {"precision": "fp16"}}, "loss scale"),
    ],
    ids=["cnn", "ngrams", "fp16"],
)
def test_what_cannot_be_divided_is_refused(tables: dict[str, Any], why: str) -> None:
    train = tables.get("train", {}) | {"sharded": True}
    with pytest.raises(TrainError, match=why):
        check_sharded(rank.recipe_of(**tables | {"train": train}))


def test_one_process_has_nobody_to_share_with() -> None:
    check_sharded(rank.recipe_of())
    with pytest.raises(TrainError, match="there is one process"):
        check_sharded(rank.recipe_of(train={"sharded": True}))


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined(Stop()) as ranks:
        assert (ranks.number, ranks.count) == (0, 1)
        assert ranks.total(2.0, 3.0) == [2.0, 3.0]


def test_a_rank_that_finds_nobody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with pytest.raises(MachineError, match="Rank 1 of 2 cannot meet the others"), joined(Stop()):
        pass
    assert distributed.world().count == 1


def test_a_meeting_passes_over_what_is_left_of_earlier_ones() -> None:
    """Ranks that are started anew find the words of those before them: of rank 0, and of a meeting that began."""
    store = dist.HashStore()
    names: list[set[str]] = []
    for count in (3, 3, 2):
        with ThreadPoolExecutor(count) as threads:
            others = [threads.submit(meet, store, number, count) for number in range(1, count)]
            time.sleep(0.15)  # they have read the old name by now
            names.append({meet(store, 0, count), *(other.result(60) for other in others)})
    assert [len(each) for each in names] == [1, 1, 1] and len(set.union(*names)) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="the system is asked as Linux wants it")
def test_the_system_asks_along_each_connection_whether_the_other_is_there() -> None:
    with (
        socket.create_server(("localhost", 0)) as server,
        socket.create_connection(server.getsockname()) as one,
    ):
        assert not one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        distributed._ask_for_signs_of_life()
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        times = [
            one.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        ]
        assert times[0] + times[1] * times[2] == distributed.SILENCE
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1000 * distributed.SILENCE


def test_a_lost_rank_is_told_in_words() -> None:
    stop = threading.Event()
    ranks = World(2, 4, stop)
    error = ranks.lost(RuntimeError("frames\nConnection closed by peer"))
    assert "Rank 2 of 4 has lost the others (Connection closed by peer)" in str(error)
    stop.set()
    assert ranks.lost(RuntimeError("Connection closed by peer")).code == "run.interrupted"


@pytest.mark.parametrize(
    "error", [RuntimeError("[gloo/pair.cc:553] Connection closed"), dist.DistError("gone")]
)
def test_a_rank_lost_while_weights_are_gathered_is_told_in_the_same_words(error: RuntimeError) -> None:
    """FSDP2 gathers by itself, in the middle of a forward or backward pass."""
    backend = object.__new__(ShardedBackend)
    backend._ranks = World(0, 2)
    with pytest.raises(MachineError, match="Rank 0 of 2 has lost the others"), backend._hearing():
        raise error
    with pytest.raises(RuntimeError, match="no clip"), backend._hearing():
        raise RuntimeError("a weight was used where no clip sees it")
