"""Arrays in the safetensors layout, piece by piece and without a copy of them, so that saving takes no memory.

The library's own `save` returns the whole file, and holds it twice on the way; the bytes are the same.

Reference: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, overload

import numpy as np
from numpy.typing import NDArray

from ..vault import Piece

# In the library's order: the wider types first, which keeps all aligned.
_KINDS = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "float16": "F16",
    "uint16": "U16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


@dataclass(frozen=True)
class Later:
    """An array that is made when its bytes are wanted, and then given up.

    Attributes:
        shape: that it will have.
        make: gives it, in float32.
    """

    shape: tuple[int, ...]
    make: Callable[[], NDArray[np.float32]]
    dtype: ClassVar[np.dtype[np.float32]] = np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@overload
def pieces(
    arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> list[bytes | memoryview]: ...


@overload
def pieces(
    arrays: Mapping[str, NDArray[Any] | Later], metadata: Mapping[str, str] | None = None
) -> list[Piece]: ...


def pieces(arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> Any:
    """A safetensors file as the pieces that it consists of.

    Args:
        arrays: by name; contiguous ones are not copied, and must not change until the pieces are written. Of one that is to be made
            later, the piece is what makes its bytes.
        metadata: stands in the header; leave it out for none.

    Raises:
        ValueError: an array is of a type that the layout does not know.
    """
    names, head = head_of(arrays, metadata)
    bodies = (
        _later(array) if isinstance(array, Later) else _body(array)
        for array in (arrays[name] for name in names)
    )
    return [head, *bodies]


def head_of(
    arrays: Mapping[str, NDArray[Any] | Later], metadata: Mapping[str, str] | None = None
) -> tuple[list[str], bytes]:
    """How a safetensors file begins, and the names of its arrays in the order in which their bytes follow.

    Args:
        arrays: of which type and shape alone are looked at.
        metadata: as of `pieces`.

    Raises:
        ValueError: as of `pieces`.
    """
    ordered = sorted(arrays.items(), key=lambda item: (list(_KINDS).index(item[1].dtype.name), item[0]))
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    at = 0
    for name, array in ordered:
        span = [at, at + array.nbytes]
        header[name] = {"dtype": _KINDS[array.dtype.name], "shape": list(array.shape), "data_offsets": span}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return [name for name, _ in ordered], len(text).to_bytes(8, "little") + text


def _body(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _later(array: Later) -> Piece:
    return lambda: _body(array.make())
