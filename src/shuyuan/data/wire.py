"""What this process and its workers say to each other: JSON and plain arrays through a pipe, never a pickle."""

from __future__ import annotations

import json
from math import prod
from typing import Any, BinaryIO

import numpy as np

_LENGTH = 8  # bytes that say how long the JSON is


def send(stream: BinaryIO, table: dict[str, Any]) -> None:
    """Writes one message: a table whose values are arrays, or what JSON can say.

    Args:
        stream: to the other process.
        table: its keys are texts.
    """
    arrays = {key: value for key, value in table.items() if isinstance(value, np.ndarray)}
    plain = {key: value for key, value in table.items() if key not in arrays}
    shapes = {key: (array.dtype.str, array.shape) for key, array in arrays.items()}
    text = json.dumps([plain, shapes], ensure_ascii=False).encode("utf-8", "surrogatepass")
    stream.write(len(text).to_bytes(_LENGTH, "little") + text)
    for array in arrays.values():
        stream.write(np.ascontiguousarray(array).data)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any]:
    """Reads what `send` wrote.

    Args:
        stream: from the other process.

    Raises:
        EOFError: nobody writes any more.
    """
    size = int.from_bytes(_read(stream, _LENGTH), "little")
    table, shapes = json.loads(_read(stream, size).decode("utf-8", "surrogatepass"))
    for key, (kind, shape) in shapes.items():
        dtype = np.dtype(kind)
        table[key] = np.frombuffer(_read(stream, prod(shape) * dtype.itemsize), dtype).reshape(shape)
    return dict(table)


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
