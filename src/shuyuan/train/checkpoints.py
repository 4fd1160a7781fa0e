"""Checkpoints: all that resume needs, in a folder that appears whole or not at all. Safetensors and JSON, never pickle.

Arrays of one process are written whole (format 1); those that are divided among ranks in shares, which these write (format 2).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TrainError
from ..models import pieces
from ..vault import Folder, Store
from .backend import Arrays, Divided
from .stored import File, Stored, damaged

FORMAT, FORMAT_OF_SHARES = 1, 2
FOLDER = "checkpoints"
STATE_FILE = "state.json"
PART_BYTES = 64 << 20  # arrays are written in parts of about this size, so that loading needs little memory
LARGEST_STATE_BYTES = 2**24
PARTS = ("state", "files", "identity", "circumstances")  # of the state file


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
            whole = {
                **(_write_shares(folder, arrays) if isinstance(arrays, Divided) else _write(folder, arrays)),
                "state": state,
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
            The driver's state and the backend's arrays, which are read when they are asked for. All of them are known to be
            whole; only where they are in shares, and ranks are to read these, it is the ranks that `open` what they read.

        Raises:
            TrainError: it belongs to another recipe or data, is damaged, or does not fit the model.
        """
        whole, where = self._read(step), _folder(step)
        shares = whole["shares"] if whole["format"] == FORMAT_OF_SHARES else 1
        files = [
            File(self._store.permit(f"{where}/{name}"), digest, number if shares > 1 else 0)
            for number, (name, digest) in enumerate(whole["files"].items())
        ]
        stored = Stored(files, shares, expected, where)
        if shares == 1 or not isinstance(expected, Divided):
            stored.open()
        state: dict[str, Any] = whole["state"]
        return state, stored

    def changed_circumstances(self, step: int) -> list[str]:
        """What is otherwise now than when a checkpoint was written, such as "threads: 2 then, 4 now"."""
        then = self._read(step)["circumstances"]
        return [
            f"{key}: {then.get(key)} then, {now} now"
            for key, now in self._circumstances.items()
            if then.get(key) != now
        ]

    def _read(self, step: int) -> dict[str, Any]:
        name = f"{_folder(step)}/{STATE_FILE}"
        try:
            with self._store.open(name) as reader:
                if reader.size > LARGEST_STATE_BYTES:
                    raise ValueError(f"{reader.size} bytes")
                whole = json.loads(reader.read_at(0, reader.size))
            known = whole["format"] in (FORMAT, FORMAT_OF_SHARES)
            complete = all(isinstance(whole.get(part), dict) for part in PARTS)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise damaged(name, f"it is not what was written: {error}") from None
        if not known:
            raise TrainError(
                "train.checkpoint-format",
                f"The checkpoint has format {whole['format']}, and this version reads {FORMAT} and {FORMAT_OF_SHARES}.",
                where=name,
                mend="Go on with the version of Shuyuan that wrote it.",
            )
        if not complete:
            raise damaged(name, "parts are missing, or are no tables")
        if whole["format"] == FORMAT_OF_SHARES and not _is_in_shares(whole):
            raise damaged(name, "it does not name one file for each share")
        _check_identity(whole["identity"], self._identity, _folder(step))
        found: dict[str, Any] = whole
        return found


def _folder(step: int) -> str:
    return f"{FOLDER}/step-{step:08}"


def share_file(number: int) -> str:
    """The name of a share's file."""
    return f"share-{number:05}.safetensors"


def _is_in_shares(whole: dict[str, Any]) -> bool:
    """Whether the files of a state file are those of as many shares as it says."""
    files, shares = whole["files"], whole.get("shares")
    return (
        type(shares) is int
        and shares > 1
        and list(files) == [share_file(n) for n in range(len(files))]
        and len(files) == shares
    )


def _write(folder: Folder, arrays: Arrays) -> dict[str, Any]:
    """Writes arrays whole; what the state file says of it."""
    files = {}
    for number, part in enumerate(_parts(arrays)):
        name = f"arrays-{number:05}.safetensors"
        content = pieces(part)
        files[name] = _digest(content)
        folder.write(name, *content)
        part.clear()  # before more is fetched, which may be as large
        content.clear()
    return {"format": FORMAT, "files": files}


def _write_shares(folder: Folder, arrays: Divided) -> dict[str, Any]:
    """Has all ranks write their shares; what the state file says of it. None of it counts before all of them are here, whole."""
    names = [share_file(number) for number in range(arrays.shares)]
    permits = [folder.permit(name) for name in names]
    files = {}
    for name, permit, (digest, size) in zip(names, permits, arrays.write(permits), strict=True):
        with permit.open() as reader:
            if reader.size != size:
                raise damaged(permit.name, f"{size} bytes were written, and {reader.size} are here")
        files[name] = digest
    return {"format": FORMAT_OF_SHARES, "shares": arrays.shares, "files": files}


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
