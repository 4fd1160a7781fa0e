"""What is written piece by piece is what the library writes, and takes no memory of its own."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from shuyuan.models.layout import _KINDS, Later, pieces
from shuyuan.vault import OpenStore

KINDS = st.sampled_from([np.dtype(name) for name in _KINDS])
ARRAYS = KINDS.flatmap(
    lambda kind: arrays_of.arrays(kind, arrays_of.array_shapes(min_dims=0, min_side=0, max_side=5))
)


@given(st.dictionaries(st.text(max_size=5).filter("__metadata__".__ne__), ARRAYS, max_size=5))
def test_it_is_read_as_what_was_written_and_byte_for_byte_the_librarys(arrays: dict[str, Any]) -> None:
    content = b"".join(pieces(arrays))
    assert content == safetensors.numpy.save(arrays)
    found = safetensors.numpy.load(content)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_metadata_stands_in_the_header() -> None:
    arrays = {"a": np.ones(3, np.float32)}
    assert b"".join(pieces(arrays, {"format": "pt"})) == safetensors.numpy.save(arrays, {"format": "pt"})


def test_a_turned_array_is_written_as_it_reads() -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    np.testing.assert_array_equal(safetensors.numpy.load(b"".join(pieces({"a": turned})))["a"], turned)


def test_large_arrays_are_not_copied() -> None:
    arrays = {"a": np.zeros(1 << 22, np.float32)}
    tracemalloc.start()
    pieces(arrays)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 16


def test_what_is_made_later_is_never_all_there(tmp_path: Path) -> None:
    made = {
        f"w{number}": Later((1 << 18,), lambda n=number: np.full(1 << 18, n, np.float32))
        for number in range(8)
    }  # type: ignore[misc]
    with OpenStore(tmp_path) as store:
        tracemalloc.start()
        with store.folder("model") as folder:
            folder.write("weights", *pieces(made | {"a": np.ones(3, np.float32)}))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3 * (1 << 20)
    arrays = {name: later.make() for name, later in made.items()} | {"a": np.ones(3, np.float32)}
    assert (tmp_path / "model/weights").read_bytes() == safetensors.numpy.save(arrays)
