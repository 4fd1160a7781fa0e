"""Checkpoints: whole or not there, only for their own recipe, and checked name by name when they are read."""

from __future__ import annotations

import json
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shuyuan.errors import MachineError, TrainError
from shuyuan.train import checkpoints as module
from shuyuan.train import stored
from shuyuan.train.backend import OneByOne, shape_alone
from shuyuan.train.checkpoints import Arrays, Checkpoints
from shuyuan.vault import OpenStore

IDENTITY = {"seed": 1, "train.learning_rate": 0.1}


def arrays(scale: float = 1.0) -> Arrays:
    return {
        "weights.a": np.arange(6, dtype=np.float32).reshape(2, 3) * scale,
        "optimizer.a.step": np.array(scale, dtype=np.float32),
        "random.cpu": np.arange(5, dtype=np.uint8),
        "weights.empty": np.zeros((0, 3), np.float32),
    }


def made(path: Path, **changes: object) -> Checkpoints:
    identity = IDENTITY | {key.replace("__", "."): value for key, value in changes.items()}
    return Checkpoints(OpenStore(path), identity, {"threads": 2}, keep=2)


def save(checkpoints: Checkpoints, step: int, safe_step: int = 0) -> None:
    checkpoints.save(step, {"step": step, "safe_step": safe_step}, arrays(step))


def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save(made(tmp_path), 7)
    state, found = made(tmp_path).load(7, arrays())
    assert state == {"step": 7, "safe_step": 0}
    assert found.keys() == arrays().keys()
    for name, array in arrays(7).items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_large_states_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 10)
    save(made(tmp_path), 7)
    assert len(list((tmp_path / "checkpoints/step-00000007").glob("*.safetensors"))) > 1
    _, found = made(tmp_path).load(7, arrays())
    assert np.array_equal(found["weights.a"], arrays(7)["weights.a"])


def test_no_more_than_a_part_and_an_array_is_held_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of arrays that are fetched one by one, as those of shares on many ranks are."""
    monkeypatch.setattr(module, "PART_BYTES", 3000)
    there, most = 0, 0

    def gone(size: int) -> None:
        nonlocal there
        there -= size

    def fetch(name: str) -> NDArray[Any]:
        nonlocal there, most
        array = np.full(250, int(name), np.float32)
        weakref.finalize(array, gone, array.nbytes)
        there += array.nbytes
        most = max(most, there)
        return array

    arrays = OneByOne(map(str, range(20)), fetch)
    made(tmp_path).save(1, {"safe_step": 0}, arrays)
    assert there == 0 and 3000 <= most <= 4000
    blank = {name: shape_alone(np.zeros(1, np.float32), (250,)) for name in arrays}
    _, found = made(tmp_path).load(1, blank)
    assert found.keys() == arrays.keys()
    assert all((found[name] == int(name)).all() for name in reversed(list(found)))
    with pytest.raises(KeyError):
        found["20"]


def test_arrays_in_another_order_of_memory_are_saved_by_value(tmp_path: Path) -> None:
    turned = {"weights.a": np.arange(6, dtype=np.float32).reshape(3, 2).T}
    made(tmp_path).save(1, {"safe_step": 0}, turned)
    _, found = made(tmp_path).load(1, turned)
    assert np.array_equal(found["weights.a"], turned["weights.a"])


def test_the_last_ones_are_kept_and_the_safe_one(tmp_path: Path) -> None:
    checkpoints = made(tmp_path)
    for step in (0, 5, 10, 15, 20):
        save(checkpoints, step, safe_step=5 if step >= 5 else 0)
    assert checkpoints.steps() == [5, 15, 20]


def test_later_ones_are_removed_after_a_rollback(tmp_path: Path) -> None:
    checkpoints = made(tmp_path)
    for step in (5, 10, 15):
        save(checkpoints, step, safe_step=5)
    checkpoints.remove_after(5)
    assert checkpoints.steps() == [5]


def test_a_half_written_checkpoint_is_not_one(tmp_path: Path) -> None:
    checkpoints = made(tmp_path)
    save(checkpoints, 5)
    with pytest.raises(KeyboardInterrupt), OpenStore(tmp_path).folder("checkpoints/step-00000009") as folder:
        folder.write("state.json", b"{}")
        raise KeyboardInterrupt
    assert checkpoints.steps() == [5]


def test_a_full_disk_leaves_the_older_one_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = made(tmp_path)
    save(checkpoints, 5)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(MachineError, match="No space left on device") as caught,
    ):
        patch.setattr(os, "fsync", full)
        save(checkpoints, 9)
    assert "step-00000009" in str(caught.value.where) and "Free some space" in caught.value.mend
    assert checkpoints.steps() == [5]
    assert checkpoints.load(5, arrays())[0]["step"] == 5


@pytest.mark.parametrize(
    "change",
    [{"seed": 2}, {"train__learning_rate": 0.2}, {"data": "other"}],
)
def test_another_recipe_is_refused_and_the_difference_named(
    tmp_path: Path, change: dict[str, object]
) -> None:
    save(made(tmp_path), 5)
    key = next(iter(change)).replace("__", ".")
    with pytest.raises(TrainError, match=key) as caught:
        made(tmp_path, **change).load(5, arrays())
    assert caught.value.code == "train.other-checkpoint"
    with pytest.raises(TrainError):
        made(tmp_path, **change).state(5)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"weights.b": np.zeros(3, np.float32)}, "weights.b is missing"),
        ({"weights.a": np.zeros((2, 4), np.float32)}, r"float32 \[2, 3\], not float32 \[2, 4\]"),
        ({"weights.a": np.zeros((2, 3), np.float64)}, "not float64"),
    ],
)
def test_names_shapes_and_types_must_fit(tmp_path: Path, expected: Arrays, said: str) -> None:
    save(made(tmp_path), 5)
    with pytest.raises(TrainError, match=said) as caught:
        made(tmp_path).load(5, arrays() | expected)
    assert caught.value.code == "train.checkpoint-misfit"


def test_an_array_too_many_is_refused(tmp_path: Path) -> None:
    save(made(tmp_path), 5)
    fewer = arrays()
    del fewer["random.cpu"]
    with pytest.raises(TrainError, match=r"random\.cpu is unknown"):
        made(tmp_path).load(5, fewer)


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    save(made(tmp_path), 5)
    file = tmp_path / "checkpoints/step-00000005/arrays-00000.safetensors"
    whole = file.read_bytes()
    for place in (0, 9, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(TrainError) as caught:
            made(tmp_path).load(5, arrays())
        assert caught.value.code == "train.damaged-checkpoint"


def test_a_file_larger_than_the_state_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(made(tmp_path), 5)
    monkeypatch.setattr(stored, "LARGEST_HEADER_BYTES", 1000)
    made(tmp_path).load(5, arrays())
    with (tmp_path / "checkpoints/step-00000005/arrays-00000.safetensors").open("ab") as out:
        out.write(bytes(1000))
    with pytest.raises(TrainError, match="holds more than the model's state"):
        made(tmp_path).load(5, arrays())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format": 1}', b"\xff"])
def test_a_damaged_state_file_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    save(made(tmp_path), 5)
    (tmp_path / "checkpoints/step-00000005/state.json").write_bytes(content)
    with pytest.raises(TrainError) as caught:
        made(tmp_path).load(5, arrays())
    assert caught.value.code == "train.damaged-checkpoint"


def test_another_format_is_refused(tmp_path: Path) -> None:
    save(made(tmp_path), 5)
    file = tmp_path / "checkpoints/step-00000005/state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(TrainError, match="format 99"):
        made(tmp_path).load(5, arrays())


def test_changed_circumstances_are_named(tmp_path: Path) -> None:
    save(made(tmp_path), 5)
    assert made(tmp_path).changed_circumstances(5) == []
    other = Checkpoints(OpenStore(tmp_path), IDENTITY, {"threads": 4}, keep=2)
    assert other.changed_circumstances(5) == ["threads: 2 then, 4 now"]
