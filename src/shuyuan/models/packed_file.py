"""Compressed weights in model folders: what config.json says of them, and their safetensors file, in and out. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShuyuanError
from ..vault import Folder, Reader, Store
from .layout import pieces
from .packed import Arrays, Floats, Kind, bad_packed, dense, unpack
from .weights import Place, read_bytes, read_header

TABLE = "quantization_config"
PACKED_FILE = "packed.safetensors"  # no name under which another program would look for weights
METHOD = "shuyuan"
VERSION = 1
DTYPES = {"F32": 4, "F16": 2, "I8": 1, "U8": 1}
_NUMPY = {"F32": "<f4", "F16": "<f2", "I8": "i1", "U8": "u1"}
# A weight's name and the weight, outputs first: how it is stored, and what.
Pack = Callable[[str, Floats], tuple[Kind, Arrays]]


def write_packed(folder: Folder, weights: Mapping[str, Floats], pack: Pack) -> dict[str, Any]:
    """Writes weights in fewer bytes.

    Args:
        folder: receives the file.
        weights: by name.
        pack: compresses one of them.

    Returns:
        What config.json must say of them, under `TABLE`.
    """
    arrays: dict[str, NDArray[Any]] = {}
    entries = {}
    for name, weight in weights.items():
        kind, parts = pack(name, weight)
        entries[name] = kind.to_json()
        arrays |= {name + ending: part for ending, part in parts.items()}
    folder.write(PACKED_FILE, *pieces(arrays, {"format": METHOD}))
    return {"quant_method": METHOD, "version": VERSION, "weights": entries}


def kinds(table: Mapping[str, Any], where: str) -> dict[str, Kind] | None:
    """How the weights of a model folder are stored, by their names; None where it is not compressed.

    Args:
        table: the content of config.json.
        where: its name, for errors.

    Raises:
        ShuyuanError: another program compressed it, or a later version of this one, or an entry makes no sense.
    """
    found = table.get(TABLE)
    if found is None:
        return None
    if not isinstance(found, dict) or found.get("quant_method") != METHOD or found.get("version") != VERSION:
        named = found.get("quant_method") if isinstance(found, dict) else found
        raise ShuyuanError(
            "models.other-compression",
            f"The weights are compressed in a way that is not known here ({str(named)[:40]}).",
            where=where,
            mend="Use a folder with weights in float32, bfloat16 or float16, or one that this version compressed.",
        )
    entries = found.get("weights")
    if not isinstance(entries, dict):
        raise bad_packed("of the model", "config.json lists none", where)
    return {name: Kind.from_json(name, entry, where) for name, entry in entries.items()}


def read_packed(store: Store, name: str, kinds: Mapping[str, Kind]) -> Iterator[tuple[str, Floats]]:
    """All weights, as float32.

    Args:
        store, name, kinds: as of `read_stored`.

    Yields:
        (name, weight), one at a time.

    Raises:
        ShuyuanError: as of `read_stored`.
    """
    where = _file_in(store, name)[1]
    with closing(
        read_stored(store, name, kinds)
    ) as stored:  # where a weight is refused, the file is closed at once
        for weight, arrays in stored:
            yield weight, unpack(weight, kinds[weight], arrays, where)


def read_dense(store: Store, name: str, kinds: Mapping[str, Kind]) -> Iterator[tuple[str, Arrays]]:
    """All weights as `packed.dense` has them.

    Args:
        store, name, kinds: as of `read_stored`.

    Yields:
        (name, arrays), one at a time.

    Raises:
        ShuyuanError: as of `read_stored`.
    """
    where = _file_in(store, name)[1]
    with closing(read_stored(store, name, kinds)) as stored:
        for weight, arrays in stored:
            yield weight, dense(weight, kinds[weight], arrays, where)


def read_stored(
    store: Store, name: str, kinds: Mapping[str, Kind]
) -> Generator[tuple[str, Arrays], None, None]:
    """What is stored of each weight, by the endings of the names; memory peaks at one weight more than what the caller keeps.

    Args:
        store: where the model folder is.
        name: the folder's name in it; "" is the store itself.
        kinds: of all weights, as config.json says.

    Raises:
        ShuyuanError: the file is damaged, or a weight is missing, of another shape, not finite, or one too many.
    """
    full, where = _file_in(store, name)
    if not store.exists(full):
        raise bad_packed("of the model", f"there is no {PACKED_FILE}", where)
    with store.open(full) as reader:
        places = read_header(reader, where, DTYPES)
        left = set(places)
        for weight, kind in kinds.items():
            endings = [ending for ending in kind.parts(0) if weight + ending in places]
            _check_sizes(weight, kind, {ending: places[weight + ending] for ending in endings}, where)
            left -= {weight + ending for ending in endings}
            yield weight, {ending: _array(reader, places[weight + ending], where) for ending in endings}
    if left:
        raise bad_packed(min(left), "config.json does not name it", where)


def _file_in(store: Store, name: str) -> tuple[str, str]:
    """The file of a model folder, and its name for errors."""
    full = f"{name}/{PACKED_FILE}".removeprefix("/")
    return full, str(PurePosixPath(store.path.as_posix(), full))


def _check_sizes(name: str, kind: Kind, places: Mapping[str, Place], where: str) -> None:
    """Bounds what is read by what the shape can take, before it is read."""
    most = kind.parts(math.prod(kind.shape))
    for ending, place in places.items():
        if math.prod(place.shape) > math.prod(most[ending][1]):
            raise bad_packed(name, f"`{name[:80]}{ending}` is larger than its shape allows", where)


def _array(reader: Reader, place: Place, where: str) -> NDArray[Any]:
    content = read_bytes(reader, place, where)
    return np.frombuffer(content, _NUMPY[place.dtype]).reshape(place.shape)
