"""Safetensors files that lie are refused before anything is allocated for them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.errors import ShuyuanError
from shuyuan.models import weights
from shuyuan.models.weights import check_shapes, read_array, read_header


class Memory:
    """A reader of bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read_at(self, offset: int, count: int) -> bytes:
        return self._content[offset : offset + count]

    def close(self) -> None:
        pass


def file_of(header: Any, content: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def entry(shape: Any, start: Any, stop: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": b"1234567",
    "header longer than the file": (100).to_bytes(8, "little") + b"{}",
    "header of 2**63 bytes": (2**63).to_bytes(8, "little") + b"{}",
    "header of nothing": file_of(b""),
    "header not JSON": file_of(b"{not json"),
    "header not UTF-8": file_of(b'{"\xff\xfe": 1}'),
    "header a list": file_of([1, 2]),
    "header nested without end": file_of(b"[" * 1_000_000),
    "header with a number of a million digits": file_of(b'{"a": ' + b"9" * 1_000_000 + b"}"),
    "name twice": file_of(b'{"a": %s, "a": %s}' % ((json.dumps(entry([1], 0, 4)).encode(),) * 2), b"0000"),
    "entry a number": file_of({"a": 3}),
    "entry without shape": file_of({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, b"0000"),
    "three offsets": file_of({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, b"0000"),
    "shape of text": file_of({"a": entry("12", 0, 4)}, b"0000"),
    "shape negative": file_of({"a": entry([-1, -1], 0, 4)}, b"0000"),
    "shape overflows 64 bits": file_of({"a": entry([2**62, 4, 2], 0, 0)}),
    "shape larger than the bytes": file_of({"a": entry([1000, 1000], 0, 4)}, b"0000"),
    "offsets backwards": file_of({"a": entry([1], 4, 0)}, b"0000"),
    "offset a fraction": file_of({"a": entry([1], 0.0, 4.0)}, b"0000"),
    "offset true": file_of({"a": entry([1], False, 4)}, b"0000"),
    "beyond the end": file_of({"a": entry([2], 0, 8)}, b"0000"),
    "overlap": file_of({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, b"0" * 12),
    "same bytes twice": file_of({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"0000"),
    "gap": file_of({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"0" * 12),
    "bytes after the end": file_of({"a": entry([1], 0, 4)}, b"0" * 5),
    "dtype unknown": file_of({"a": entry([1], 0, 4, "I32")}, b"0000"),
    "dtype a list": file_of({"a": entry([1], 0, 4, ["F32"])}, b"0000"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_lying_file_is_refused_at_once(name: str) -> None:
    start = time.process_time()
    with pytest.raises(ShuyuanError, match=r"damaged-weights|other-dtype") as caught:
        read_header(Memory(HOSTILE[name]), "model/model.safetensors")
    assert caught.value.where == "model/model.safetensors"
    assert time.process_time() - start < 1.0


def test_a_header_of_a_gigabyte_is_not_even_read(tmp_path: Path) -> None:
    """A sparse file: it claims a huge header and has the size for it."""

    class Huge(Memory):
        size = 2**40

        def read_at(self, offset: int, count: int) -> bytes:
            assert count <= weights.LARGEST_HEADER_BYTES, f"{count} bytes were asked for"
            return (2**30).to_bytes(8, "little")

    huge = Huge(b"")
    huge.size = 2**40
    with pytest.raises(ShuyuanError, match="claims 1073741824 bytes"):
        read_header(huge, "model.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_sound_file_is_read_whole(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PIECE_BYTES", 5)
    tensors = {
        "b": torch.randn(3, 4).to(dtype),
        "a": torch.randn(7).to(dtype),
        "c": torch.randn(1, 1, 2).to(dtype),
    }
    reader = Memory(safetensors.torch.save(tensors, {"format": "pt"}))
    places = read_header(reader, "x")
    assert places.keys() == tensors.keys()
    for name, tensor in tensors.items():
        read = read_array(reader, places[name], "x")
        assert read.dtype == np.float32 and np.array_equal(read, tensor.float().numpy())


def test_a_file_cut_while_it_is_read_is_noticed() -> None:
    content = safetensors.torch.save({"a": torch.ones(100)})
    place = read_header(Memory(content), "x")["a"]
    with pytest.raises(ShuyuanError, match="shorter"):
        read_array(Memory(content[:-4]), place, "x")


SOUND = file_of(
    {"a": entry([2], 0, 8), "b": entry([1, 1], 8, 12), "c": entry([2], 12, 16, "F16")}, bytes(range(16))
)


@contextmanager
def _refusal_or_nothing() -> Iterator[None]:
    try:
        yield
    except ShuyuanError as error:
        assert error.code in ("models.damaged-weights", "models.other-dtype")


@given(
    st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=4), st.integers(0, 3)
)
@settings(max_examples=400, deadline=None)
def test_what_is_accepted_is_what_the_library_reads(changes: list[tuple[int, int]], cut: int) -> None:
    """Flipped and cut files: refused, or read exactly as the reference implementation reads them."""
    content = bytearray(SOUND)
    for place, value in changes:
        content[place] = value
    content = content[: len(content) - cut]
    reader = Memory(bytes(content))
    with _refusal_or_nothing():
        places = read_header(reader, "x")
        theirs = safetensors.torch.load(bytes(content))
        assert places.keys() == theirs.keys()
        for name, place in places.items():
            if 0 not in place.shape:
                np.testing.assert_array_equal(read_array(reader, place, "x"), theirs[name].float().numpy())


def test_tensors_that_do_not_fit_the_model_are_named() -> None:
    places = read_header(Memory(SOUND), "x")
    right = {"a": (2,), "b": (1, 1), "c": (2,)}
    check_shapes(places, right, "x")
    for expected, message in (
        (right | {"d": (3,)}, "d is missing"),
        (right | {f"d{n}": (3,) for n in range(5)}, r"d0, d1, d2 and 2 more are missing"),
        ({"a": (2,), "c": (2,)}, "b is not part of the model"),
        (right | {"b": (1, 2)}, "b has the shape 1 x 1 instead of 1 x 2"),
    ):
        with pytest.raises(ShuyuanError, match=message):
            check_shapes(places, expected, "x")
