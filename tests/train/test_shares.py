"""Checkpoints in shares: what any number of ranks wrote, any other number reads, to the bit; and nothing else is taken for one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from shuyuan import vault
from shuyuan.errors import MachineError, ShuyuanError, TrainError, VaultError
from shuyuan.runs import Run
from shuyuan.train.backend import Arrays, Divided, shape_alone
from shuyuan.train.checkpoints import Checkpoints
from shuyuan.train.share_files import read_shares, write_share
from shuyuan.train.stored import Stored, is_divided, rows_of, share_of, shares_for
from shuyuan.vault import OpenStore, Permit, Store

STATE = {"step": 7, "safe_step": 0}
FOLDER = "checkpoints/step-00000007"


def state_of(heights: Sequence[int], seed: int = 0) -> dict[str, NDArray[Any]]:
    """Matrices of so many rows, a vector, and what is not divided."""
    random = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {
        f"weights.{number}": random.standard_normal((height, 3), np.float32)
        for number, height in enumerate(heights)
    }
    arrays["optimizer.0.exp_avg"] = random.standard_normal(heights[0]).astype(np.float64)
    arrays["optimizer.0.step"] = np.array(random.random(), np.float32)
    arrays["random.cpu"] = random.integers(0, 256, 50, np.uint8)
    return arrays


def blank(arrays: Arrays) -> Arrays:
    return {name: shape_alone(array, array.shape) for name, array in arrays.items()}


@contextmanager
def pretended(rank: int, count: int) -> Iterator[Any]:
    """One rank of so many, whose calls to the others are answered by nobody; the mesh that it stands in."""
    dist.init_process_group("fake", rank=rank, world_size=count, store=FakeStore())  # type: ignore[no-untyped-call]
    try:
        yield init_device_mesh("cpu", (count,))
    finally:
        dist.destroy_process_group()


def on_rank(mesh: Any, arrays: Arrays, rank: int, count: int) -> dict[str, Tensor]:
    """What a rank has of a state."""
    found: dict[str, Tensor] = {}
    for name, array in arrays.items():
        whole = torch.from_numpy(np.array(array))
        if not is_divided(name, array.shape):
            if rank == 0:
                found[name] = whole
            continue
        first, rows = rows_of(len(whole), rank, count)
        if rows:
            own = whole[first:][:rows].clone()
            found[name] = DTensor.from_local(
                own, mesh, [Shard(0)], run_check=False, shape=whole.shape, stride=whole.stride()
            )
    return found


def divided(arrays: Arrays, count: int) -> Divided:
    """The state as so many ranks have it."""

    def write(permits: Sequence[Permit]) -> list[tuple[str, int]]:
        said = []
        for rank, permit in enumerate(permits):
            with pretended(rank, count) as mesh:
                said.append(write_share(on_rank(mesh, arrays, rank, count), permit))
        return said

    return Divided(arrays, arrays.__getitem__, count, write)


def made(store: Store, keep: int = 2) -> Checkpoints:
    return Checkpoints(store, {"seed": 1}, {}, keep)


def read(checkpoints: Checkpoints, arrays: Arrays, rank: int, count: int) -> dict[str, Tensor]:
    """What a rank of so many has after it has read its share."""
    stored = checkpoints.load(7, divided(blank(arrays), count))[1]
    assert isinstance(stored, Stored) and not stored.pieces  # the ranks open what they need
    needed = sorted(shares_for(blank(arrays), rank, count, stored.shares))
    own = Stored([stored.files[number] for number in needed], stored.shares, blank(arrays), stored.where)
    own.open()
    with pretended(rank, count) as mesh:
        state = on_rank(mesh, {name: np.zeros_like(array) for name, array in arrays.items()}, rank, count)
        read_shares(state, own)
        return {
            name: tensor.to_local() if isinstance(tensor, DTensor) else tensor
            for name, tensor in state.items()
        }


# ---- any number writes, any other reads ------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(2, 6), st.integers(1, 6))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_some_ranks_wrote_any_number_reads_bit_for_bit(
    tmp_path: Path, heights: list[int], then: int, now: int
) -> None:
    arrays = state_of(heights)
    checkpoints = made(OpenStore(tmp_path))
    checkpoints.save(7, STATE, divided(arrays, then))
    state, whole = checkpoints.load(7, blank(arrays))
    assert state == STATE and whole.keys() == arrays.keys()
    assert all(whole[name].tobytes() == array.tobytes() for name, array in arrays.items())
    assert all(whole[name].dtype == array.dtype for name, array in arrays.items())
    for rank in range(now):
        found = read(checkpoints, arrays, rank, now)
        assert found.keys() == share_of(arrays, rank, now).keys()
        for name, tensor in found.items():
            wanted = arrays[name]
            if is_divided(name, wanted.shape):
                first, rows = rows_of(len(wanted), rank, now)
                wanted = wanted[first:][:rows]
            assert tensor.numpy().tobytes() == wanted.tobytes(), name


@given(st.integers(1, 50), st.integers(1, 12))
def test_shares_have_each_row_once_and_lie_as_torch_divides(rows: int, shares: int) -> None:
    parts = [rows_of(rows, share, shares) for share in range(shares)]
    assert [row for first, count in parts for row in range(first, first + count)] == list(range(rows))
    torch_has = [len(chunk) for chunk in torch.arange(rows).chunk(shares)]
    assert [count for _, count in parts if count] == torch_has


@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), st.integers(1, 9), st.integers(1, 9))
def test_a_rank_opens_the_shares_with_its_rows_and_no_others(heights: list[int], now: int, then: int) -> None:
    arrays = state_of(heights)

    def rows(name: str, share: int, shares: int) -> set[int]:
        first, count = rows_of(len(arrays[name]), share, shares)
        return set(range(first, first + count))

    for rank in range(now):
        wanted = {0} if rank == 0 else set()
        for name, array in arrays.items():
            if is_divided(name, array.shape):
                wanted |= {share for share in range(then) if rows(name, rank, now) & rows(name, share, then)}
        assert shares_for(arrays, rank, now, then) == wanted
    if now == then:
        assert all(shares_for(arrays, rank, now, then) <= {0, rank} for rank in range(now))


def test_each_rank_writes_its_own_bytes_alone(tmp_path: Path) -> None:
    arrays = state_of([400, 80])
    made(OpenStore(tmp_path)).save(7, STATE, divided(arrays, 4))
    sizes = [file.stat().st_size for file in sorted((tmp_path / FOLDER).glob("share-*"))]
    whole = sum(array.nbytes for array in arrays.values())
    assert len(sizes) == 4 and all(whole / 4 <= size < whole / 4 + 800 for size in sizes)


def test_a_whole_checkpoint_is_read_as_ever_by_ranks_that_could_read_shares(tmp_path: Path) -> None:
    arrays = state_of([9])
    made(OpenStore(tmp_path)).save(7, STATE, arrays)
    found = made(OpenStore(tmp_path)).load(7, divided(blank(arrays), 3))[1]
    assert isinstance(found, Stored) and found.shares == 1
    assert all(found[name].tobytes() == array.tobytes() for name, array in arrays.items())


def test_old_ones_go_when_a_new_one_is_there_whichever_way_they_were_written(tmp_path: Path) -> None:
    arrays, checkpoints = state_of([5]), made(OpenStore(tmp_path))
    for step in range(1, 6):
        checkpoints.save(step, {"step": step, "safe_step": 1}, divided(arrays, 2) if step % 2 else arrays)
    assert checkpoints.steps() == [1, 4, 5]


# ---- broken off ------------------------------------------------------------------------------------------------------


def test_a_rank_that_fails_leaves_the_former_checkpoint_and_no_trace(tmp_path: Path) -> None:
    arrays, checkpoints = state_of([5]), made(OpenStore(tmp_path))
    checkpoints.save(7, STATE, divided(arrays, 2))

    def fails(permits: Sequence[Permit]) -> list[tuple[str, int]]:
        with permits[0].writer() as out:
            out.write(b"half")
        raise MachineError("machine.cannot-write", "The disk is full.", mend="Free some space.")

    with pytest.raises(MachineError, match="full"):
        checkpoints.save(8, STATE, Divided(arrays, arrays.__getitem__, 2, fails))
    assert checkpoints.steps() == [7] and [path.name for path in (tmp_path / "checkpoints").iterdir()] == [
        "step-00000007"
    ]
    assert np.array_equal(
        made(OpenStore(tmp_path)).load(7, blank(arrays))[1]["weights.0"], arrays["weights.0"]
    )


@pytest.mark.parametrize("what", ["missing", "short"])
def test_a_share_that_is_not_here_whole_is_no_checkpoint(tmp_path: Path, what: str) -> None:
    """As where a rank wrote it to a disk of its own after all."""
    arrays, checkpoints = state_of([5]), made(OpenStore(tmp_path))

    def elsewhere(permits: Sequence[Permit]) -> list[tuple[str, int]]:
        said = divided(arrays, 2).write(permits)
        path = Path(permits[1].path)
        path.unlink() if what == "missing" else path.write_bytes(path.read_bytes()[:-1])
        return said

    with pytest.raises(ShuyuanError) as caught:
        checkpoints.save(7, STATE, Divided(arrays, arrays.__getitem__, 2, elsewhere))
    assert "share-00001" in str(caught.value) and checkpoints.steps() == []


# ---- damage, lies, other models --------------------------------------------------------------------------------------


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A checkpoint of three ranks in the clear."""
    made(OpenStore(tmp_path)).save(7, STATE, divided(state_of([7, 2]), 3))
    return tmp_path / FOLDER


def ways(there: Path, arrays: Arrays, now: int = 3) -> Iterator[Any]:
    """All ways to read it: whole, and by each rank."""
    checkpoints = made(OpenStore(there.parent.parent))
    yield lambda: checkpoints.load(7, blank(arrays))
    yield lambda: [read(checkpoints, arrays, rank, now) for rank in range(now)]


def test_every_changed_byte_is_noticed_by_whoever_needs_it(there: Path) -> None:
    file = there / "share-00001.safetensors"
    whole = file.read_bytes()
    for at in range(0, len(whole), 7):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        for way in ways(there, state_of([7, 2])):
            with pytest.raises(TrainError, match="content has changed") as caught:
                way()
            assert "share-00001" in str(caught.value.where)


@pytest.mark.parametrize(
    ("heights", "said"),
    [([8, 2], "float32"), ([7], "unknown"), ([7, 2, 2], "is missing"), ([7, 40], "not float32")],
)
def test_another_model_is_refused(there: Path, heights: list[int], said: str) -> None:
    for way in ways(there, state_of(heights)):
        with pytest.raises(TrainError, match=said) as caught:
            way()
        assert caught.value.code == "train.checkpoint-misfit"


def test_a_share_in_the_place_of_another_is_refused(there: Path) -> None:
    """With digests that fit, as whoever can write there can make them."""
    told = json.loads((there / "state.json").read_text())
    names = list(told["files"])
    (there / names[1]).write_bytes((there / names[0]).read_bytes())
    told["files"][names[1]] = told["files"][names[0]]
    (there / "state.json").write_text(json.dumps(told))
    for way in ways(there, state_of([7, 2])):
        with pytest.raises(TrainError) as caught:
            way()
        assert caught.value.code == "train.checkpoint-misfit"


@pytest.mark.parametrize(
    "lie",
    [
        {"shares": 2}, {"shares": 4}, {"shares": 0}, {"shares": -3}, {"shares": 1}, {"shares": 3.0}, {"shares": "3"},
        {"shares": True}, {"shares": None}, {"shares": 10**9}, {"shares": 10**400}, {"shares": [3]}, {"files": {}},
        {"format": 1}, {"format": "2"}, {"format": 2.5}, {"format": 3}, {"format": [2]}, {"format": None},
        {"files": {"share-00000.safetensors": "", "share-00002.safetensors": "", "share-00001.safetensors": ""}},
        {"files": {"share-00000.safetensors": "", "../share-00001.safetensors": "", "share-00002.safetensors": ""}},
        {"files": {"share-00000.safetensors": 0, "share-00001.safetensors": [], "share-00002.safetensors": {}}},
    ],
    ids=str,
)  # fmt: skip
def test_what_the_state_file_says_of_shares_is_believed_in_nothing(there: Path, lie: dict[str, Any]) -> None:
    told = json.loads((there / "state.json").read_text())
    (there / "state.json").write_text(json.dumps(told | lie))
    for way in ways(there, state_of([7, 2])):
        with pytest.raises(TrainError) as caught:
            way()
        assert caught.value.code in (
            "train.damaged-checkpoint",
            "train.checkpoint-format",
            "train.checkpoint-misfit",
        )


# ---- sealed ----------------------------------------------------------------------------------------------------------


def test_a_sealed_run_has_no_byte_of_a_tensor_in_the_clear_and_names_what_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", vault.new_key())
    arrays, run = state_of([7, 2]), Run(tmp_path / "run")
    with vault.open_store(run, "env:THE_KEY", create=True) as store:
        made(store).save(7, STATE, divided(arrays, 3))
    telling = [arrays["weights.0"][row].tobytes() for row in range(7)] + [b"weights.0", b"share-0"]
    for file in run.path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not any(part in content for part in telling) and "share" not in file.name
    with vault.open_store(run, "env:THE_KEY") as store:
        for way in (lambda: made(store).load(7, blank(arrays)), lambda: read(made(store), arrays, 1, 3)):
            way()
        name = f"{FOLDER}/share-00001.safetensors"
        path = Path(store.permit(name).path)
        whole = path.read_bytes()
        for at in (0, 50, 100, len(whole) - 1):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            for way in (lambda: made(store).load(7, blank(arrays)), lambda: read(made(store), arrays, 1, 3)):
                with pytest.raises(VaultError, match="share-00001"):
                    way()
