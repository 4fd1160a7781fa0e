"""What forward.c takes: its structures, and arrays made ready for them.

Shapes: R rows, C columns, G groups of a row, P columns with what fills the last group.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..packed import GROUP

PIECE_BYTES = 2**25
ROWS, WIDE = 4, 64  # of a block: rows, and bytes of each that stand together
ALIGNED = 64  # bytes: a vector of the widest processors
FLOAT32, BFLOAT16, INT8, INT4 = range(4)
_pointer, _number = ctypes.c_void_p, ctypes.c_int64


class Matrix(ctypes.Structure):
    """As in forward.c; the arrays that it points into belong to whoever makes it."""

    _fields_ = [
        ("kind", _number), ("rows", _number), ("columns", _number),
        ("codes", _pointer), ("scale", _pointer), ("zero", _pointer),
    ]  # fmt: skip


class Layer(ctypes.Structure):
    """As in forward.c."""

    _fields_ = [
        *((name, Matrix) for name in ("q", "k", "v", "o", "gate", "up", "down")),
        *((name, _pointer) for name in ("input_norm", "q_norm", "k_norm", "middle_norm")),
    ]  # fmt: skip


class Input(ctypes.Structure):
    """As in forward.c."""

    _fields_ = [(name, _pointer) for name in ("numbers", "halves", "codes", "scale", "sum", "shift")]


class Model(ctypes.Structure):
    """As in forward.c."""

    _fields_ = [
        *((name, _number) for name in (
            "layers", "width", "heads", "kv_heads", "head_dim", "hidden", "vocabulary", "capacity", "slots", "half_cache", "threads",
        )),
        ("eps", ctypes.c_float),
        ("cos", _pointer), ("sin", _pointer),
        ("embedding", Matrix), ("head", Matrix),
        ("layer", ctypes.POINTER(Layer)),
        *((name, _pointer) for name in (
            "last_norm", "keys", "values", "stream", "normed", "q", "k", "v", "attended", "gated", "scores",
        )),
        ("input", Input),
    ]  # fmt: skip


class Arrays:
    """Arrays side by side in large pieces of memory, and their addresses.

    The pieces ask for huge pages: a step reads all weights once, and with small pages it would wait for their addresses
    (29 instead of 13 GB/s here).
    """

    def __init__(self) -> None:
        self._pieces: list[NDArray[np.uint8]] = []
        self._used = 0  # of the last piece
        self.bytes = 0

    def keep(self, array: NDArray[Any]) -> int:
        """The address of a copy, which lives as long as this object."""
        copy = self._room(array.nbytes)
        copy[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return copy.ctypes.data

    def room(self, *shape: int, dtype: Any = np.float32) -> int:
        """The address of an array of zeros."""
        return self._room(math.prod(shape) * np.dtype(dtype).itemsize).ctypes.data

    def _room(self, count: int) -> NDArray[np.uint8]:
        self.bytes += count
        start = -(-self._used // ALIGNED) * ALIGNED
        if not self._pieces or len(self._pieces[-1]) - start < count:
            memory = mmap.mmap(-1, max(PIECE_BYTES, count))
            if hasattr(mmap, "MADV_HUGEPAGE"):
                memory.madvise(mmap.MADV_HUGEPAGE)
            self._pieces.append(np.frombuffer(memory, np.uint8))
            start = 0
        self._used = start + count
        return self._pieces[-1][start : self._used]

    def input(self, columns: int) -> Input:
        """Room for what a matrix is multiplied with.

        Args:
            columns: of all tokens of a call.
        """
        groups = columns // GROUP
        return Input(
            self.room(columns), self.room(columns, dtype=np.uint16), self.room(columns, dtype=np.int8),
            self.room(groups), self.room(groups), self.room(columns // 4, dtype=np.int32),
        )  # fmt: skip

    def floats(self, weight_RC: NDArray[np.float32], *, half: bool) -> Matrix:
        """A matrix of floats, rounded to bfloat16 if `half`."""
        codes: NDArray[Any] = to_bfloat16(weight_RC) if half else weight_RC
        kind = BFLOAT16 if half else FLOAT32
        return self._matrix(kind, len(codes), filled_up(codes), WIDE // codes.itemsize)

    def codes(self, bits: int, parts: Mapping[str, NDArray[Any]]) -> Matrix:
        """A matrix as it is stored in 8 or 4 bits.

        Args:
            bits: 8 or 4.
            parts: ".int8" or ".int4", codes (R, C); ".scale"; ".zero", all as `packed` has them.
        """
        R = len(parts[".scale"])
        if bits == 8:
            matrix = self._matrix(INT8, R, filled_up(parts[".int8"]), WIDE)
            matrix.scale = self.keep(filled_rows(parts[".scale"]))
            return matrix
        codes_RGC = filled_up(parts[".int4"]).reshape(-1, parts[".scale"].shape[1], GROUP)
        half = GROUP // 2
        pairs_RGH = codes_RGC[..., :half] | (codes_RGC[..., half:] << 4)
        matrix = self._matrix(INT4, R, pairs_RGH.reshape(len(pairs_RGH), -1), half)
        matrix.columns *= 2
        matrix.scale, matrix.zero = (
            self.keep(in_blocks(filled_rows(parts[name]), 1)) for name in (".scale", ".zero")
        )
        return matrix

    def _matrix(self, kind: int, rows: int, codes_RP: NDArray[Any], width: int) -> Matrix:
        """A matrix of whole groups and blocks, of which `width` numbers a row stand side by side."""
        return Matrix(kind, rows, codes_RP.shape[1], self.keep(in_blocks(codes_RP, width)), None, None)


def in_blocks(array_RP: NDArray[Any], width: int) -> NDArray[Any]:
    """Of each ROWS rows the first `width` numbers of each, then the next: what a step reads in one go.

    Args:
        array_RP: R a multiple of ROWS, P of `width`.
        width: numbers of a row that are read at once.

    Returns:
        (R / ROWS, P / width, ROWS, width).
    """
    R, P = array_RP.shape
    return array_RP.reshape(R // ROWS, ROWS, P // width, width).swapaxes(1, 2)


def filled_up(array_RC: NDArray[Any]) -> NDArray[Any]:
    """With zeros behind each row up to a whole group, and rows of zeros up to a whole block."""
    return np.pad(filled_rows(array_RC), ((0, 0), (0, -array_RC.shape[1] % GROUP)))


def filled_rows(array: NDArray[Any]) -> NDArray[Any]:
    """With rows of zeros behind the last up to a whole block."""
    return np.pad(array, ((0, -len(array) % ROWS), *[(0, 0)] * (array.ndim - 1)))


def to_bfloat16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even; what is not a number stays none.

    Args:
        array: of any shape.
    """
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    rounded[np.isnan(array)] = 0x7FC0
    return rounded
