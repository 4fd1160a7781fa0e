"""Shards: files of prepared records in the safetensors layout, read at random without loading them.

Tensors of a shard of text: `tokens` (U16, or U32 for vocabularies over 65,536), `offsets` (U64, where each record begins, and
the end of the last), `owners` (U64, a keyed hash of each record's owner), for tasks with labels `labels` (U16, the class
of each record), and for tasks with prompts `roles` (U8, what each token is for: bits of `prompts.py`). Of a shard of images: `pixels` (U8, all of one size, each channel after the other, row by row), `owners` and
`labels`. The header is read by a small strict parser of our own, because the library wants the whole file or a path, and a
sealed shard is neither.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..strict import parsed
from ..vault import Reader, Store
from .manifest import ShardFacts
from .sources import ImageFacts

SHARD_BYTES = (
    32 * 1024 * 1024
)  # of tokens or pixels; a record is never cut, so a longer one makes a larger shard
_HEADER_LIMIT = 64 * 1024
_TYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64}
_NAMES = {
    "tokens": ("U16", "U32"),
    "pixels": ("U8",),
    "offsets": ("U64",),
    "owners": ("U64",),
    "labels": ("U16",),
    "roles": ("U8",),
}
_TEXT, _IMAGES = {"tokens", "offsets", "owners"}, {"pixels", "owners", "labels"}
_KINDS = (_TEXT, _TEXT | {"labels"}, _TEXT | {"roles"}, _IMAGES)

Tokens = NDArray[np.unsignedinteger[Any]]


def token_type(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """The narrowest type that holds every id."""
    return np.uint16 if vocab_size <= 65_536 else np.uint32


def write_shard(
    store: Store,
    name: str,
    tokens: Tokens,
    offsets: NDArray[np.uint64],
    owners: NDArray[np.uint64],
    labels: NDArray[np.uint16] | None = None,
    roles: NDArray[np.uint8] | None = None,
) -> ShardFacts:
    """Writes one shard, whole or not at all.

    Args:
        store: the run's files.
        name: of the shard in the run.
        tokens: ids of all records, each closed by the end token.
        offsets: where each record begins in `tokens`, and the end of the last.
        owners: the owner's hash of each record.
        labels: the class of each record, for a task with labels.
        roles: what each token is for, for a task with prompts.
    """
    # The wider type first keeps all aligned.
    arrays: dict[str, NDArray[Any]] = {"offsets": offsets, "owners": owners, "tokens": tokens}
    if labels is not None:
        arrays["labels"] = labels
    if roles is not None:
        arrays["roles"] = roles
    return ShardFacts(name, len(owners), len(tokens), _write(store, name, arrays))


def write_image_shard(
    store: Store,
    name: str,
    pixels: NDArray[np.uint8],
    owners: NDArray[np.uint64],
    labels: NDArray[np.uint16],
) -> ShardFacts:
    """Writes one shard of images, whole or not at all.

    Args:
        store: the run's files.
        name: of the shard in the run.
        pixels: of all images, one after another.
        owners: the owner's hash of each.
        labels: the class of each.
    """
    arrays: dict[str, NDArray[Any]] = {"owners": owners, "labels": labels, "pixels": pixels}
    return ShardFacts(name, len(owners), len(owners), _write(store, name, arrays))


def _write(store: Store, name: str, arrays: dict[str, NDArray[Any]]) -> str:
    """Writes arrays in the safetensors layout; the SHA-256 of all of it."""
    header: dict[str, Any] = {}
    at = 0
    for key, array in arrays.items():
        kind = next(kind for kind, dtype in _TYPES.items() if array.dtype == dtype)
        header[key] = {"dtype": kind, "shape": [len(array)], "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with store.writer(name) as out:
        for part in (len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in arrays.values())):
            digest.update(part)
            out.write(part)
    return digest.hexdigest()


class Shard:
    """A shard opened for random access.

    Args:
        reader: the open file.
        name: for errors.

    Attributes:
        tokens: how many token ids it holds, or bytes of pixels.
        records: how many records.

    Raises:
        DataError: the file is not a shard.
    """

    def __init__(self, reader: Reader, name: str) -> None:
        self._reader = reader
        self._name = name
        self._start, tensors = self._header()
        self._body = "pixels" if "pixels" in tensors else "tokens"
        self._dtype = _TYPES[tensors[self._body]["dtype"]]
        self._places = {key: tensor["data_offsets"] for key, tensor in tensors.items()}
        self.tokens: int = tensors[self._body]["shape"][0]
        self.records: int = tensors["owners"]["shape"][0]

    def read(self, start: int, stop: int) -> Tokens:
        """Token ids or pixels from `start` up to `stop`, without a copy of anything else.

        Args:
            start, stop: counted over all records: tokens, or bytes of pixels.

        Raises:
            IndexError: they lie outside of the shard.
            DataError: it was cut since it was opened.
            VaultError: of a sealed run, these bytes were changed.
        """
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"{start}:{stop} of {self.tokens} tokens")
        width = np.dtype(self._dtype).itemsize
        at = self._start + self._places[self._body][0] + start * width
        data = self._reader.read_at(at, (stop - start) * width)
        if len(data) != (stop - start) * width:
            raise self._broken("it is cut short")
        return np.frombuffer(data, self._dtype)

    def offsets(self, image: ImageFacts | None = None) -> NDArray[np.uint64]:
        """Where each record begins, and the end of the last; images are all of one size.

        Args:
            image: what the shard must hold images of; None: it must hold text.
        """
        if (image is not None) != (self._body == "pixels"):
            raise self._broken("it holds images" if image is None else "it holds no images")
        if image is not None:
            if self.tokens != self.records * image.bytes:
                raise self._broken("its pixels do not fit its records")
            return np.arange(self.records + 1, dtype=np.uint64) * np.uint64(image.bytes)
        offsets = self._whole("offsets")
        sound = len(offsets) == self.records + 1 and offsets[0] == 0 and offsets[-1] == self.tokens
        if not sound or (offsets[1:] < offsets[:-1]).any():
            raise self._broken("its offsets do not fit its tokens")
        return offsets

    def owners(self) -> NDArray[np.uint64]:
        """The hash of each record's owner."""
        return self._whole("owners")

    def labels(self, classes: int) -> NDArray[np.uint16]:
        """The class of each record, below `classes`."""
        if "labels" not in self._places:
            raise self._broken("it holds no labels")
        labels: NDArray[np.uint16] = self._whole("labels", np.uint16)
        if len(labels) != self.records or (labels >= classes).any():
            raise self._broken("its labels do not fit its records")
        return labels

    def roles(self) -> NDArray[np.uint8]:
        """What each token is for; none in a shard of a task without prompts."""
        if "roles" not in self._places:
            return np.zeros(0, np.uint8)
        roles: NDArray[np.uint8] = self._whole("roles", np.uint8)
        if len(roles) != self.tokens:
            raise self._broken("its roles do not fit its tokens")
        return roles

    def _whole(self, key: str, dtype: type[Any] = np.uint64) -> NDArray[Any]:
        start, stop = self._places[key]
        return np.frombuffer(self._reader.read_at(self._start + start, stop - start), dtype)

    def _header(self) -> tuple[int, dict[str, Any]]:
        size = int.from_bytes(self._reader.read_at(0, 8), "little")
        if self._reader.size < 8 or size > min(_HEADER_LIMIT, self._reader.size - 8):
            raise self._broken("its header is too long")
        try:
            header = parsed(self._reader.read_at(8, size))
        except (ValueError, RecursionError):
            raise self._broken("its header is not JSON") from None
        if not isinstance(header, dict) or header.keys() not in _KINDS:
            raise self._broken("it does not hold tokens, offsets and owners, nor pixels, owners and labels")
        spans = sorted(self._span(key, header[key]) for key in header)
        if [start for start, _ in spans] != [0, *(stop for _, stop in spans[:-1])]:
            raise self._broken("its parts overlap or leave gaps")
        if 8 + size + spans[-1][1] != self._reader.size:
            raise self._broken("its length is not what its header says")
        return 8 + size, header

    def _span(self, key: str, tensor: Any) -> tuple[int, int]:
        try:
            kind, (count,), (start, stop) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise self._broken(f"its header does not describe {key}") from None
        numbers = (count, start, stop)
        sound = tensor.keys() == {"dtype", "shape", "data_offsets"} and kind in _NAMES[key]
        if not sound or any(type(number) is not int or number < 0 for number in numbers):
            raise self._broken(f"its header does not describe {key}")
        if stop - start != count * np.dtype(_TYPES[kind]).itemsize:
            raise self._broken(f"the size of {key} does not fit its type")
        return start, stop

    def _broken(self, why: str) -> DataError:
        return DataError(
            "data.bad-shard",
            f"The shard cannot be read: {why}.",
            where=self._name,
            mend="Restore the run from a copy, or prepare the data again in a new folder.",
        )
