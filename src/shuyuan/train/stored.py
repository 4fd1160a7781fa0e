"""The arrays of a checkpoint as they lie in its files: whole, in one file after another, or in shares, a file for each rank that wrote it.

Which rows a share has follows from its number and from how many there are, as FSDP2 divides them, and no file says anything else of
it: so nothing in a checkpoint can claim rows that overlap others, are missing, or belong to another array.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShuyuanError, TrainError
from ..models.weights import LARGEST_HEADER_BYTES, PIECE_BYTES, Place, read_bytes, read_header
from ..vault import Permit, Reader
from .backend import Arrays, OneByOne, shape_alone

KINDS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8"), "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"), "I8": np.dtype("i1"), "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
SIZES = {name: kind.itemsize for name, kind in KINDS.items()}
RANDOM = "random."  # what names of the states of random numbers begin with, which are nobody's rows


@dataclass(frozen=True)
class File:
    """One file of a checkpoint.

    Args:
        permit: opens it.
        digest: SHA-256 of its content, in hex.
        share: its number; 0 of arrays that are whole.
    """

    permit: Permit
    digest: str
    share: int = 0


@dataclass(frozen=True)
class Piece:
    """Rows of an array in a file, from the row `first` on; an array without rows is one piece."""

    file: File
    first: int
    place: Place


class Stored(OneByOne):
    """The arrays of a checkpoint, each read when it is asked for, after `open`.

    Args:
        files: those that are needed; of arrays that are whole, all of them.
        shares: how many the arrays are divided into; 1 where they are whole.
        expected: names, shapes and types of whole arrays, as the backend has them.
        where: the checkpoint, for errors.

    Attributes:
        pieces: of each array, those that lie in `files`; empty before `open`.
    """

    def __init__(self, files: Sequence[File], shares: int, expected: Arrays, where: str) -> None:
        super().__init__(expected, self._whole)
        self.files = files
        self.shares = shares
        self.where = where
        self.pieces: dict[str, list[Piece]] = {}
        self._expected = expected
        self._room = sum(array.nbytes for array in expected.values()) + LARGEST_HEADER_BYTES

    def open(self) -> None:
        """Makes sure that all bytes of the files are what was written, and are the arrays that are expected.

        Raises:
            TrainError: they are not.
        """
        self.pieces = {name: [] for name in self._expected}
        found: dict[str, NDArray[Any]] = {}
        for file in self.files:
            places = self._places(file)
            shapes = {
                name: shape_alone(np.zeros((), KINDS[at.dtype]), at.shape) for name, at in places.items()
            }
            if self.shares > 1:
                check_arrays(shapes, self._share(file.share), file.permit.name)
            elif twice := found.keys() & places.keys():
                raise damaged(file.permit.name, f"{min(twice)} stands in another file too")
            found |= shapes
            for name in places.keys() & self.pieces.keys():
                rows = places[name].shape[:1]
                first = rows_of(self._expected[name].shape[0], file.share, self.shares)[0] if rows else 0
                self.pieces[name].append(Piece(file, first, places[name]))
        if self.shares == 1:
            check_arrays(found, self._expected, self.where)

    def read(self, piece: Piece, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Some rows of a piece, by default all of it.

        Args:
            piece: one of `pieces`.
            first: row of the piece.
            count: of rows.
        """
        at = piece.place
        kind, shape = KINDS[at.dtype], at.shape
        if count is not None:
            width = at.size // shape[0]
            shape = (count, *shape[1:])
            at = Place(at.dtype, shape, at.start + first * width, count * width)
        with piece.file.permit.open() as reader:
            return np.frombuffer(read_bytes(reader, at, piece.file.permit.name), kind).reshape(shape)

    def like(self, name: str) -> NDArray[Any]:
        """Shape and type of a whole array."""
        return self._expected[name]

    def _whole(self, name: str) -> NDArray[Any]:
        pieces = self.pieces[name]
        if len(pieces) == 1:
            return self.read(pieces[0])
        like = self._expected[name]
        whole = np.empty(like.shape, like.dtype)
        for piece in pieces:
            whole[piece.first :][: piece.place.shape[0]] = self.read(piece)
        return whole

    def _share(self, number: int) -> Arrays:
        return share_of(self._expected, number, self.shares)

    def _places(self, file: File) -> dict[str, Place]:
        name = file.permit.name
        with file.permit.open() as reader:
            if reader.size > self._room:
                raise damaged(name, "it holds more than the model's state")
            if digest_of(reader) != file.digest:
                raise damaged(name, "its content has changed since it was written")
            try:
                return read_header(reader, name, SIZES)
            except ShuyuanError as error:
                raise damaged(name, error.what.removesuffix(".")) from None


def rows_of(rows: int, share: int, shares: int) -> tuple[int, int]:
    """The first row that a share has, and how many: all have as many as the first one, the last ones fewer, or none.

    Args:
        rows: of the whole array.
        share: its number, from 0.
        shares: how many there are.
    """
    height = -(-rows // shares)
    first = min(share * height, rows)
    return first, min(height, rows - first)


def is_divided(name: str, shape: tuple[int, ...]) -> bool:
    """Whether an array of a state is divided into shares, by its rows; share 0 has all else whole."""
    return len(shape) > 0 and not name.startswith(RANDOM)


def share_of(whole: Arrays, share: int, shares: int) -> dict[str, NDArray[Any]]:
    """Names, shapes and types of what a share has of a state.

    Args:
        whole: those of the whole state.
        share: its number, from 0.
        shares: how many there are.
    """
    found = {}
    for name, array in whole.items():
        if not is_divided(name, array.shape):
            if share == 0:
                found[name] = array
        elif count := rows_of(array.shape[0], share, shares)[1]:
            found[name] = shape_alone(array, (count, *array.shape[1:]))
    return found


def shares_for(whole: Arrays, share: int, shares: int, stored: int) -> set[int]:
    """Which of the shares that are stored have rows of one of now.

    Args:
        whole: names, shapes and types of the whole state.
        share: of now; its number, from 0.
        shares: how many there are now.
        stored: how many are stored.
    """
    needed = {0} if share == 0 else set()
    for name, array in whole.items():
        if is_divided(name, array.shape):
            first, count = rows_of(array.shape[0], share, shares)
            height = -(-array.shape[0] // stored)
            needed |= set(range(first // height, (first + count - 1) // height + 1)) if count else set()
    return needed


def digest_of(reader: Reader) -> str:
    """SHA-256 of the content of a file, in hex; read in pieces."""
    digest = hashlib.sha256()
    for start in range(0, reader.size, PIECE_BYTES):
        digest.update(reader.read_at(start, PIECE_BYTES))
    return digest.hexdigest()


def check_arrays(found: Arrays, expected: Arrays, where: str) -> None:
    """Compares names, shapes and types.

    Raises:
        TrainError: something is missing, is one too many, or is otherwise; it is named.
    """

    def shape(array: NDArray[Any]) -> str:
        return f"{array.dtype} {list(array.shape)}"

    wrong = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    wrong += [f"{name} is unknown" for name in sorted(found.keys() - expected.keys())]
    wrong += [
        f"{name} is {shape(found[name])}, not {shape(array)}"
        for name, array in expected.items()
        if name in found and shape(found[name]) != shape(array)
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise TrainError(
            "train.checkpoint-misfit",
            f"The checkpoint does not fit the model: {'; '.join(wrong[:3])}{more}.",
            where=where,
            mend="Use the recipe and version that wrote it, or start a new run with --out.",
        )


def damaged(where: str, detail: str) -> TrainError:
    """The error for a checkpoint that is not what was written."""
    return TrainError(
        "train.damaged-checkpoint",
        f"The checkpoint is damaged: {detail}.",
        where=where,
        mend="Restore it from a copy, or delete its folder; training then goes on from the one before.",
    )
