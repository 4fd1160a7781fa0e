"""Reads safetensors files tensor by tensor through a store, and believes nothing that they say of themselves.

A file is: 8 bytes, the length of the header; the header, JSON {name: {dtype, shape, data_offsets}}; the tensors' bytes,
little endian. What is read is bounded by what the caller expects, never by what the file claims.

Reference: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ShuyuanError
from ..strict import parsed
from ..vault import Reader

# 1024 layers of 11 tensors take 2 MB.
LARGEST_HEADER_BYTES = 2**23
PIECE_BYTES = 2**26  # read at once
FLOATS = {"F32": 4, "BF16": 2, "F16": 2}  # bytes of a number
DTYPES = FLOATS | {"I64": 8}

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in its file, and what it is.

    Attributes:
        dtype: its name in safetensors, such as "F32".
        shape: of the tensor.
        start: the byte of the file that is its first.
        size: in bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def read_header(reader: Reader, where: str, known: Mapping[str, int] = DTYPES) -> dict[str, Place]:
    """What a safetensors file says it holds, checked against its size.

    Args:
        reader: the opened file.
        where: its name, for errors.
        known: the types that may stand in it, with the bytes of a number.

    Returns:
        Tensor name to place.

    Raises:
        ShuyuanError: the header is too long, not JSON, or does not describe exactly the bytes that follow it.
    """
    length = int.from_bytes(reader.read_at(0, 8), "little")
    if reader.size < 8 or length > min(reader.size - 8, LARGEST_HEADER_BYTES):
        raise damaged(f"its header claims {length} bytes", where)
    try:
        header = parsed(reader.read_at(8, length))
    except (ValueError, RecursionError) as error:
        raise damaged(f"its header cannot be read ({str(error)[:80]})", where) from None
    if not isinstance(header, dict):
        raise damaged("its header is no table", where)
    header.pop("__metadata__", None)
    base = 8 + length
    places = {name: _place(name, entry, base, where, known) for name, entry in header.items()}
    end = base
    for name, place in sorted(places.items(), key=lambda item: (item[1].start, item[1].size)):
        if place.start != end:
            raise damaged(f"the bytes of {name[:80]} overlap others or leave a gap", where)
        end = place.start + place.size
    if end != reader.size:
        raise damaged(f"it describes {end} bytes and has {reader.size}", where)
    return places


class Shaped(Protocol):
    """Something stored that has a shape."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def check_shapes(places: Mapping[str, Shaped], expected: Shapes, where: str) -> None:
    """Compares what a model's files hold with what its configuration says.

    Args:
        places: what the files hold, by name.
        expected: the shape of each tensor, by name.
        where: the folder, for errors.

    Raises:
        ShuyuanError: a tensor is missing, is one too many, or has another shape; it is named.
    """
    missing = [name for name in expected if name not in places]
    extra = [name for name in places if name not in expected]
    other = [name for name in expected if name in places and places[name].shape != expected[name]]
    for problem, names in (("missing", missing), ("not part of the model", extra)):
        if names:
            raise _misfit(f"{_some(names)} {'is' if len(names) == 1 else 'are'} {problem}", where)
    for name in other:
        has, wants = _by(places[name].shape), _by(expected[name])
        raise _misfit(f"{name} has the shape {has} instead of {wants}", where)


def read_array(reader: Reader, place: Place, where: str) -> NDArray[np.float32]:
    """One tensor of floats, as float32.

    Args:
        reader: the open file.
        place: of the tensor in it.
        where: the file, for errors.

    Raises:
        ShuyuanError: the file has become shorter since its header was read.
    """
    content = read_bytes(reader, place, where)
    if place.dtype == "BF16":  # the upper half of a float32
        halves = np.frombuffer(content, "<u2").astype(np.uint32) << 16
        return halves.view(np.float32).reshape(place.shape)
    found = np.frombuffer(content, {"F32": "<f4", "F16": "<f2"}[place.dtype])
    return found.astype(np.float32, copy=False).reshape(place.shape)


def read_bytes(reader: Reader, place: Place, where: str) -> bytearray:
    """The bytes of one tensor.

    Args:
        reader: the open file.
        place: of the tensor in it; it is read piece by piece.
        where: the file, for errors.

    Raises:
        ShuyuanError: the file has become shorter since its header was read.
    """
    content = bytearray(place.size)
    for start in range(0, place.size, PIECE_BYTES):
        count = min(PIECE_BYTES, place.size - start)
        piece = reader.read_at(place.start + start, count)
        content[start : start + count] = piece
        if len(piece) != count:
            raise damaged("it has become shorter while it was read", where)
    return content


def damaged(why: str, where: str) -> ShuyuanError:
    """The error for a file that is not what it says."""
    return ShuyuanError(
        "models.damaged-weights",
        f"The file is not a sound safetensors file: {why}.",
        where=where,
        mend="Get the file again from where it came from.",
    )


def _place(name: str, entry: Any, base: int, where: str, known: Mapping[str, int]) -> Place:
    """Checks one entry of the header."""
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise damaged(f"its entry {name[:80]} is not a tensor", where) from None
    if not isinstance(dtype, str) or dtype not in known:
        raise ShuyuanError(
            "models.other-dtype",
            f"{name[:80]} is stored as {str(dtype)[:20]}, which this version does not read.",
            where=where,
            mend=f"Use weights stored as one of: {', '.join(known)}.",
        )
    if not isinstance(shape, list) or len(shape) > 8 or not all(_is_size(size) for size in shape):
        raise damaged(f"the shape of {name[:80]} is not a list of sizes", where)
    if not _is_size(start) or not _is_size(stop) or stop - start != math.prod(shape) * known[dtype]:
        raise damaged(f"the bytes of {name[:80]} do not fit its shape", where)
    return Place(dtype, tuple(shape), base + start, stop - start)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _misfit(what: str, where: str) -> ShuyuanError:
    return ShuyuanError(
        "models.other-tensors",
        f"The weights do not fit the configuration: {what[:400]}.",
        where=where,
        mend="Use config.json and weights of the same model.",
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
