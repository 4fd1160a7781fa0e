"""Checkpoints: all that resume needs, in a folder that appears whole or not at all. Safetensors and JSON, never pickle."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShuyuanError, TrainError
from ..models import pieces
from ..models.weights import LARGEST_HEADER_BYTES, read_header
from ..vault import Reader, Store
from .backend import Arrays, OneByOne, shape_alone

FORMAT = 1
FOLDER = "checkpoints"
STATE_FILE = "state.json"
PART_BYTES = 64 << 20  # arrays are written in parts of about this size, so that loading needs little memory
LARGEST_STATE_BYTES = 2**24
PARTS = ("state", "files", "identity", "circumstances")  # of the state file
KINDS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8"), "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"), "I8": np.dtype("i1"), "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip


class Checkpoints:
    """The checkpoints of one run.

    Args:
        store: the run's files.
        identity: what the checkpoints belong to, as flat JSON values: the recipe's keys that shape the result, and the
            data's fingerprint. A checkpoint with another identity is refused.
        circumstances: what the bits may depend on besides: device, threads, versions. Only noted.
        keep: how many to keep; the one that a rollback returns to is kept beyond that.
    """

    def __init__(
        self, store: Store, identity: dict[str, Any], circumstances: dict[str, Any], keep: int
    ) -> None:
        self._store = store
        self._identity = identity
        self._circumstances = circumstances
        self._keep = keep

    def steps(self) -> list[int]:
        """The steps at which there is a checkpoint, lowest first."""
        found = (
            re.fullmatch(rf"{FOLDER}/step-(\d+)/{re.escape(STATE_FILE)}", name)
            for name in self._store.names(FOLDER + "/")
        )
        return sorted(int(match[1]) for match in found if match)

    def save(self, step: int, state: dict[str, Any], arrays: Arrays) -> None:
        """Writes a checkpoint, then removes those that are no longer needed.

        Args:
            step: names the folder.
            state: the driver's part; its `safe_step` is kept too.
            arrays: the backend's part; read one after another, not changed.

        Raises:
            MachineError: the disk is full or cannot be written; older checkpoints are untouched.
        """
        with self._store.folder(_folder(step)) as folder:
            files = {}
            for number, part in enumerate(_parts(arrays)):
                name = f"arrays-{number:05}.safetensors"
                content = pieces(part)
                files[name] = _digest(content)
                folder.write(name, *content)
                part.clear()  # before more is fetched, which may be as large
                content.clear()
            whole = {
                "format": FORMAT,
                "state": state,
                "files": files,
                "identity": self._identity,
                "circumstances": self._circumstances,
            }
            folder.write(STATE_FILE, json.dumps(whole, indent=1, ensure_ascii=False).encode())
        needed = {*self.steps()[-self._keep :], int(state["safe_step"])}
        for old in self.steps():
            if old not in needed:
                self._store.remove(_folder(old))

    def remove_after(self, step: int) -> None:
        """Removes the checkpoints of later steps: a rollback makes them a road not taken."""
        for later in reversed(self.steps()):
            if later > step:
                self._store.remove(_folder(later))

    def state(self, step: int) -> dict[str, Any]:
        """The driver's part of a checkpoint. Raises TrainError as `load` does."""
        state: dict[str, Any] = self._read(step)["state"]
        return state

    def load(self, step: int, expected: Arrays) -> tuple[dict[str, Any], Arrays]:
        """Reads a checkpoint and checks that it fits.

        Args:
            step: one of `steps`.
            expected: arrays with the names, shapes and types that the backend has.

        Returns:
            The driver's state and the backend's arrays, which are read when they are asked for; all of them are known to be whole.

        Raises:
            TrainError: it belongs to another recipe or data, is damaged, or does not fit the model.
        """
        where = _folder(step)
        whole = self._read(step)
        files: dict[str, str] = whole["files"]
        room = sum(array.nbytes for array in expected.values()) + LARGEST_HEADER_BYTES

        @lru_cache(1)
        def part(file: str) -> dict[str, NDArray[Any]]:
            return self._part(f"{where}/{file}", files[file], room)

        home: dict[str, str] = {}
        found: dict[str, NDArray[Any]] = {}
        for file in files:
            for name, array in part(file).items():
                home[name], found[name] = file, shape_alone(array, array.shape)
        _check_arrays(found, expected, where)
        state: dict[str, Any] = whole["state"]
        return state, OneByOne(home, lambda name: part(home[name])[name])

    def changed_circumstances(self, step: int) -> list[str]:
        """What is otherwise now than when a checkpoint was written, such as "threads: 2 then, 4 now"."""
        then = self._read(step)["circumstances"]
        return [
            f"{key}: {then.get(key)} then, {now} now"
            for key, now in self._circumstances.items()
            if then.get(key) != now
        ]

    def _part(self, name: str, digest: str, most: int) -> dict[str, NDArray[Any]]:
        with self._store.open(name) as reader:
            if reader.size > most:
                raise _damaged(name, "it holds more than the model's state")
            content = reader.read_at(0, reader.size)
            if _digest([content]) != digest:
                raise _damaged(name, "its content has changed since it was written")
            return _arrays(reader, content, name)

    def _read(self, step: int) -> dict[str, Any]:
        name = f"{_folder(step)}/{STATE_FILE}"
        try:
            with self._store.open(name) as reader:
                if reader.size > LARGEST_STATE_BYTES:
                    raise ValueError(f"{reader.size} bytes")
                whole = json.loads(reader.read_at(0, reader.size))
            known = whole["format"] == FORMAT
            complete = all(isinstance(whole.get(part), dict) for part in PARTS)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(name, f"it is not what was written: {error}") from None
        if not known:
            raise TrainError(
                "train.checkpoint-format",
                f"The checkpoint has format {whole['format']}, and this version reads {FORMAT}.",
                where=name,
                mend="Go on with the version of Shuyuan that wrote it.",
            )
        if not complete:
            raise _damaged(name, "parts are missing, or are no tables")
        _check_identity(whole["identity"], self._identity, _folder(step))
        found: dict[str, Any] = whole
        return found


def _folder(step: int) -> str:
    return f"{FOLDER}/step-{step:08}"


def _parts(arrays: Arrays) -> Iterator[dict[str, NDArray[Any]]]:
    """The arrays, in order, in groups of about PART_BYTES. Each is the caller's own, to empty when it is done with."""
    part: dict[str, NDArray[Any]] = {}
    size = 0
    for name, array in arrays.items():
        if part and size + array.nbytes > PART_BYTES:
            yield part
            part, size = {}, 0
        part[name] = array if array.flags.c_contiguous else np.array(array, order="C")
        size += array.nbytes
    yield part


def _arrays(reader: Reader, content: bytes, where: str) -> dict[str, NDArray[Any]]:
    """The arrays of a file that was read whole."""
    try:
        places = read_header(reader, where, {name: kind.itemsize for name, kind in KINDS.items()})
    except ShuyuanError as error:
        raise _damaged(where, error.what.removesuffix(".")) from None
    return {
        name: np.frombuffer(content, KINDS[at.dtype], math.prod(at.shape), at.start).reshape(at.shape)
        for name, at in places.items()
    }


def _digest(content: list[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for piece in content:
        digest.update(piece)
    return digest.hexdigest()


def _check_identity(then: dict[str, Any], now: dict[str, Any], where: str) -> None:
    other = [
        f"{key}: {then.get(key)!r} there, {now.get(key)!r} here"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
    if other:
        raise TrainError(
            "train.other-checkpoint",
            "The checkpoint was made with another recipe or other data:\n  " + "\n  ".join(other),
            where=where,
            mend="Undo the change, or start a new run with --out.",
        )


def _check_arrays(found: Arrays, expected: Arrays, where: str) -> None:
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


def _damaged(where: str, detail: str) -> TrainError:
    return TrainError(
        "train.damaged-checkpoint",
        f"The checkpoint is damaged: {detail}.",
        where=where,
        mend="Restore it from a copy, or delete its folder; training then goes on from the one before.",
    )
