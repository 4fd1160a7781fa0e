"""Files of weights that lie: each made from a sound one, as small as a lie can be."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Header = dict[str, Any]


class Program:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self._trace),)


def parsed(whole: bytes) -> tuple[Header, bytes]:
    """Header and body of a sound file."""
    length = int.from_bytes(whole[:8], "little")
    return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def packed(header: Header | bytes, body: bytes = b"") -> bytes:
    """A file with that header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def pickles(trace: Path) -> dict[str, bytes]:
    """What leaves `trace` behind where it is unpickled."""
    out = io.BytesIO()
    torch.save({"weight": Program(trace)}, out)
    return {"a pickle": pickle.dumps(Program(trace)), "a zip of torch.save": out.getvalue()}


def corpus(whole: bytes) -> dict[str, bytes]:
    """Lies about a sound file."""
    header, body = parsed(whole)
    name, entry = next((n, e) for n, e in header.items() if n != "__metadata__" and len(e["shape"]) > 0)
    start, stop = entry["data_offsets"]

    def lie(**changes: Any) -> bytes:
        return packed(header | {name: entry | changes}, body)

    def twice(other: Header) -> bytes:
        text = json.dumps(header).encode()
        return packed(text[:-1] + b", " + json.dumps({name: other}).encode()[1:], body)

    found: dict[str, bytes | Callable[[], bytes]] = {
        "nothing": b"",
        "less than a length": whole[:5],
        "a length of 2**64 - 1": b"\xff" * 8 + whole[8:],
        "a length of 2**63": (1 << 63).to_bytes(8, "little") + whole[8:],
        "a length one beyond the end": len(whole).to_bytes(8, "little") + whole[8:],
        "a header of zeros": packed(b"\0" * 100, body),
        "a header that is no UTF-8": packed(b'{"\xff\xfe": 1}', body),
        "a header cut": packed(json.dumps(header).encode()[:-5], body),
        "a header that is a list": packed(b"[]", body),
        "a header without tensors": packed({}, body),
        "lists without end": packed(b"[" * 2_000_000),
        "tables without end": packed(b'{"a":' * 1_000_000),
        "metadata without end": packed(b'{"__metadata__":' + b"[" * 500_000 + b"]" * 500_000 + b"}", body),
        "a number of a million digits": packed(b'{"a":' + b"9" * 1_000_000 + b"}", body),
        "a number as large as can be": lie(data_offsets=[start, 1e308]),
        "a name twice": twice(entry),
        "a name twice, elsewhere": twice(entry | {"data_offsets": [stop, 2 * stop - start]}),
        "a hundred thousand tensors of nothing": packed(
            header | {f"{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(100_000)},
            body,
        ),
        "a tensor that is a number": packed(header | {name: 3}, body),
        "no shape": packed(header | {name: {"dtype": "F32", "data_offsets": [start, stop]}}, body),
        "a shape of a hundred thousand ones": lie(shape=[1] * 100_000),
        "a shape below zero": lie(shape=[-1, -stop]),
        "a shape of half": lie(shape=[0.5]),
        "a shape of truth": lie(shape=[True]),
        "a shape of text": lie(shape="16"),
        "a shape of petabytes": lie(shape=[1 << 40, 1 << 10]),
        "a shape that overflows to nothing": lie(shape=[1 << 32, 1 << 32]),
        "a shape that overflows to what is there": lie(shape=[(1 << 62) + (stop - start) // 4, 4]),
        "no offsets": lie(data_offsets=[]),
        "three offsets": lie(data_offsets=[start, stop, stop]),
        "offsets backwards": lie(data_offsets=[stop, start]),
        "offsets below zero": lie(data_offsets=[-stop, start]),
        "offsets beyond the end": lie(data_offsets=[start + len(body), stop + len(body)]),
        "offsets of 2**64": lie(data_offsets=[start + (1 << 64), stop + (1 << 64)]),
        "offsets into another": lie(data_offsets=[start + 4, stop + 4]),
        "a type that is none": lie(dtype="PICKLE"),
        "a type that is a list": lie(dtype=["F32"]),
        "a type of other size": lie(dtype="F64"),
        "another name": packed({f"{n}x": e for n, e in header.items() if n != "__metadata__"}, body),
        "bytes behind the end": whole + b"\0" * 16,
        "bytes missing": whole[:-1],
        "half": whole[: len(whole) // 2],
        "two files": whole * 2,
    }
    return {what: made if isinstance(made, bytes) else made() for what, made in found.items()}


# What may stand in a header in the place of anything.
STRANGE = [
    None, True, -1, 0, 1, 4, 8, 2**31, 2**63, 2**64, 10**400, 1e308, float("nan"), float("inf"), "", "F32", "BF16", "I64", "F4",
    "../x", "\ud800", [], [0], [1], [-1], [2**62, 4], [0, 4], [4, 0], [[1]], {}, {"a": {}},
]  # fmt: skip
