"""Whether the compiled products are right on this processor: each kind of matrix against float64, at sizes that fill no block.

Kernels of others read past the ends of odd shapes, or give garbage, on some processors; ours are tried before they are believed.
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..packed import dense, floats, pack
from .build import NotCompiledError
from .structures import Arrays, Matrix

SHAPES = ((1, 40), (5, 64), (8, 200), (13, 1))
# The largest error of a product, of the largest that it could be: inputs rounded to 8 bits, to bfloat16, or not at all.
WITHIN = {"int8": 1e-2, "int4": 1e-2, "bfloat16": 8e-3, "float32": 1e-6}


@cache
def check(library: ctypes.CDLL) -> None:
    """Tries every kind of product once.

    Args:
        library: as `build` compiled it. Once it was found right it is not tried again in this process.

    Raises:
        NotCompiledError: one of them is wrong.
    """
    random = np.random.default_rng(0)
    for shape in SHAPES:
        weight_RC = random.standard_normal(shape).astype(np.float32)
        x_C = random.standard_normal(shape[1]).astype(np.float32)
        for name, most in WITHIN.items():
            arrays = Arrays()
            matrix, meant_RC = _matrix(arrays, name, weight_RC)
            error_R = multiply(library, arrays, matrix, x_C) - meant_RC.astype(np.float64) @ x_C
            largest = float(np.abs(meant_RC).sum(1).max() * np.abs(x_C).max())
            if not float(np.abs(error_R).max()) <= most * largest:
                raise NotCompiledError(f"its products of {name} are wrong on this processor")


def multiply(
    library: ctypes.CDLL, arrays: Arrays, matrix: Matrix, x_C: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The product of a matrix and numbers, (R,).

    Args:
        library: as compiled.
        arrays: keep what `matrix` points to.
        matrix: (R, C), whose columns may be filled up.
        x_C: numbers, as many as it had columns before.

    Returns:
        float32.
    """
    filled = np.pad(x_C, (0, matrix.columns - len(x_C)))
    found_R = np.empty(matrix.rows, np.float32)
    library.shuyuan_multiply(
        ctypes.byref(matrix), ctypes.c_void_p(filled.ctypes.data), arrays.input(matrix.columns),
        ctypes.c_void_p(found_R.ctypes.data),
    )  # fmt: skip
    return found_R


def _matrix(arrays: Arrays, name: str, weight_RC: NDArray[np.float32]) -> tuple[Matrix, NDArray[np.float32]]:
    """A matrix of that kind, and the weights that it stands for."""
    if name in ("int8", "int4"):
        kind, stored = pack(weight_RC, int(name[3:]))
        codes = dense(name, kind, stored, "")
        return arrays.codes(kind.bits, codes), floats(kind, codes)
    return arrays.floats(weight_RC, half=name == "bfloat16"), weight_RC
