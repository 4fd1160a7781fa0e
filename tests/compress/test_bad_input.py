"""What is broken in a compressed folder, or asked too much of a method: an error of ours, never another one, and no silent garbage."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shuyuan.compress import calibrated
from shuyuan.data import byte_tokenizer
from shuyuan.errors import ShuyuanError
from shuyuan.models import Transformer, TransformerConfig, hub, inner_matrices, pack
from shuyuan.models.packed_file import PACKED_FILE, TABLE
from shuyuan.progress import Progress
from shuyuan.vault import OpenStore
from tests.runs import shuyuan as command
from tests.support.families import FAMILIES

Arrays = dict[str, Any]
CONFIG = TransformerConfig(
    vocab_size=257, end_id=256, layers=1, width=24, heads=2, kv_heads=1, head_dim=12, hidden=40, context=16
)  # no width that 64 divides


def model() -> Transformer:
    made = Transformer(CONFIG, seed=1)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)), alpha=0.1)
    return made.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights of every kind, which tests put back."""
    place = tmp_path_factory.mktemp("packed")

    def packed(name: str, weight: Any) -> Any:
        if weight.ndim < 2:
            return pack(weight, 32)
        mask = np.abs(weight) > 0.05 if "mlp" in name else None
        return pack(weight, 4 if "proj" in name else 8, mask)

    with OpenStore(place) as store, store.folder("model") as out:
        hub.save(out, model(), byte_tokenizer().to_json(), "", pack=packed)
    return place / "model"


def loaded(folder: Path) -> dict[str, Any]:
    with OpenStore(folder.parent, writable=False) as store:
        network: Any = hub.load(store, "model")
    return {name: weight.detach().numpy().copy() for name, weight in network.named_parameters()}


def gone(arrays: Arrays, name: str) -> None:
    del arrays[name]


def filled(value: float, arrays: Arrays, name: str) -> None:
    if arrays[name].dtype.kind != "f":
        raise KeyError  # codes hold every value that their type has
    arrays[name] = arrays[name].copy()
    with np.errstate(over="ignore"):
        arrays[name].reshape(-1)[0] = value


def negated(arrays: Arrays, name: str) -> None:
    if not name.endswith(".scale"):
        raise KeyError
    arrays[name] = -arrays[name]


def of_groups_of(size: int, arrays: Arrays, name: str) -> None:
    if not name.endswith((".scale", ".zero")) or arrays[name].ndim < 2:
        raise KeyError
    arrays[name] = np.repeat(arrays[name], 64 // size, 1)


def cast(dtype: str, arrays: Arrays, name: str) -> None:
    if arrays[name].dtype == dtype:
        raise KeyError
    arrays[name] = arrays[name].astype(dtype)


def longer(arrays: Arrays, name: str) -> None:
    arrays[name] = np.concatenate([arrays[name], arrays[name][-1:]])


def shorter(arrays: Arrays, name: str) -> None:
    arrays[name] = arrays[name][:-1]


def renamed(arrays: Arrays, name: str) -> None:
    arrays["another"] = arrays.pop(name)


def added(arrays: Arrays, name: str) -> None:
    arrays[f"{name}.more"] = arrays[name]


CHANGES: list[Callable[[Arrays, str], None]] = [
    gone, negated, longer, shorter, renamed, added, *(partial(filled, value) for value in (np.nan, np.inf, -np.inf, -1e30, 6e4 * 2)),
    *(partial(of_groups_of, size) for size in (32, 16)), *(partial(cast, dtype) for dtype in ("float32", "float16", "uint8", "int8")),
]  # fmt: skip
QUICKLY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(st.data())
@QUICKLY
def test_whatever_is_wrong_with_a_part_is_refused_by_name(folder: Path, data: st.DataObject) -> None:
    file = folder / PACKED_FILE
    sound = file.read_bytes()
    arrays = safetensors.numpy.load(sound)
    name = data.draw(st.sampled_from(sorted(arrays)))
    try:
        data.draw(st.sampled_from(CHANGES))(arrays, name)
        file.write_bytes(safetensors.numpy.save(arrays))
        with pytest.raises(ShuyuanError) as error:
            loaded(folder)
    except KeyError:  # the change is none for this part
        return
    finally:
        file.write_bytes(sound)
    assert error.value.code in ("models.bad-compressed", "models.damaged") and PACKED_FILE in str(error.value)


@given(st.binary(max_size=64), st.floats(0, 1), st.integers(0, 200))
@QUICKLY
def test_bytes_that_are_cut_or_changed_are_refused_or_give_finite_weights(
    folder: Path, junk: bytes, where: float, cut: int
) -> None:
    file = folder / PACKED_FILE
    sound = file.read_bytes()
    place = int(where * len(sound))
    content = sound[:place] + junk + sound[place + len(junk) :]
    file.write_bytes(content[: len(content) - cut])
    try:
        weights = loaded(folder)
    except ShuyuanError as error:
        assert error.mend
    else:
        assert all(np.isfinite(weight).all() for weight in weights.values())
        assert not cut, "a file that is cut is never read"
    finally:
        file.write_bytes(sound)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@given(st.data(), JSON)
@QUICKLY
def test_an_entry_of_another_scheme_is_refused_or_is_the_same(
    folder: Path, data: st.DataObject, value: Any
) -> None:
    file = folder / "config.json"
    sound = file.read_text()
    whole = loaded(folder)
    table = json.loads(sound)
    own = table[TABLE]
    places: list[tuple[dict[str, Any], str]] = [(own, key) for key in own]
    places += [(own["weights"], name) for name in own["weights"]]
    places += [(entry, key) for entry in own["weights"].values() for key in entry]
    entry, key = data.draw(st.sampled_from(places))
    entry[key] = value
    file.write_text(json.dumps(table))
    try:
        found = loaded(folder)
    except ShuyuanError as error:
        assert error.mend
    else:
        assert all((found[name] == weight).all() for name, weight in whole.items())
    finally:
        file.write_text(sound)


def test_pruning_all_or_nothing_is_refused(tmp_path: Path) -> None:
    FAMILIES["transformer"].run(tmp_path, "generation")
    for share in ("0", "1", "1.0", "-0.5", "nan", "inf"):
        for option in ("--prune", "--shrink"):
            refused = command("compress", tmp_path / "run", f"{option}={share}")
            assert refused.status == 1 and f"compress.{option[2:]}" in refused.stderr


@pytest.mark.parametrize("share", [0.01, 0.99])
@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
@pytest.mark.parametrize("length", [1, 2])
def test_one_record_of_one_token_gives_finite_weights_of_that_share(
    share: float, method: str, length: int
) -> None:
    made, records = model(), [np.ones((1, length), np.int64)]
    inner = inner_matrices(made)
    masks = calibrated.prune(made, inner, share, method, records, Progress())
    grids = calibrated.round_to_grids(made, inner, masks, records, Progress())
    assert masks.keys() == grids.keys() == inner
    for name, weight in made.named_parameters():
        assert weight.isfinite().all()
        if name in inner:
            assert (weight.detach().numpy()[~masks[name]] == 0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_model_that_computes_no_numbers_is_refused(value: float) -> None:
    made = model()
    with torch.no_grad():
        made.model.layers[0].mlp.up_proj.weight[0, 0] = value
        made.model.layers[0].mlp.gate_proj.weight[0] = 1e30
    records = [np.arange(8)[None]]
    for method in ("wanda", "sparsegpt"):
        with pytest.raises(ShuyuanError, match="finite"):
            calibrated.prune(copy.deepcopy(made), inner_matrices(made), 0.5, method, records, Progress())
    with pytest.raises(ShuyuanError, match="finite"):
        calibrated.round_to_grids(made, inner_matrices(made), {}, records, Progress())
