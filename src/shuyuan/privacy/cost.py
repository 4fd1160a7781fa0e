"""Which form of a matrix's per-unit gradient costs less, from its shape alone; the plan asks the same. Loads no torch."""

from __future__ import annotations

# A processor does about so many operations while it passes one byte through its memory; a GPU more.
OPERATIONS_A_BYTE = {"cpu": 5.0, "cuda": 60.0}
# A dense gradient is written, read for its norm, and read for the sum.
DENSE_PASSES = 3
# A dense gradient may take this many times the memory of its two factors.
DENSE_MEMORY = 2.0
# The same in TensorFlow, where the Gram matrices in float64 cost more: measured there, both are equally fast at about this.
KERAS_DENSE_MEMORY = 4


def prefers_dense(positions: int, rows: int, columns: int, device: str, element_bytes: int) -> bool:
    """Whether a matrix's gradient is cheaper as an array for each unit than as two factors and their Gram matrices.

    Both need one product of the factors: here for each unit, there for all units at once. Beside it, the array passes
    through memory, and the factors cost 2 T² (O + I) operations and stay in memory.

    Args:
        positions: T, of a unit.
        rows: O, of the matrix.
        columns: I, of the matrix.
        device: "cpu" or "cuda".
        element_bytes: of a number of the factors.
    """
    size = rows * columns
    if size > DENSE_MEMORY * positions * (rows + columns):
        return False
    ghost_operations = 4 * positions**2 * (rows + columns)  # in float64, which takes twice as long
    return DENSE_PASSES * element_bytes * size * OPERATIONS_A_BYTE.get(device, 60.0) <= ghost_operations
