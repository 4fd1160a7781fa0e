"""What goes wrong, in words: every refusal names the thing and the mend.

A code is stable (`room.what-is-wrong`), so that people can search for it and programs can branch on it.
`docs/errors.md` lists them all and is generated from the places that raise them.
"""

from __future__ import annotations

import errno
from pathlib import Path


def reason(error: BaseException) -> str:
    """What the system says of an error, in words alone: "Permission denied", without number and path.

    Args:
        error: of any kind; one without such words tells its own.
    """
    return str(getattr(error, "strerror", None) or error)


class ShuyuanError(Exception):
    """A clear refusal or failure: what happened, where, and how to mend it.

    Args:
        code: stable name of the error, `room.what-is-wrong`.
        what: one sentence that names the thing.
        mend: one sentence that says what to do.
        where: the key, file or file:line that it is about, if there is one.
    """

    exit_status = 1

    def __init__(self, code: str, what: str, *, mend: str, where: str | None = None) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.mend = mend
        self.where = where

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what} {self.mend} [{self.code}]"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries (graders, parallel preparation) and must arrive whole.
        return (_rebuild, (type(self), self.code, self.what, self.mend, self.where))

    def as_dict(self) -> dict[str, str | None]:
        """The error as `--json` prints it."""
        return {"code": self.code, "what": self.what, "where": self.where, "mend": self.mend}


def _rebuild(kind: type[ShuyuanError], code: str, what: str, mend: str, where: str | None) -> ShuyuanError:
    return kind(code, what, mend=mend, where=where)


class RecipeError(ShuyuanError):
    """The recipe asks for something that is not there, not allowed, or contradicts itself."""


class DataError(ShuyuanError):
    """The source cannot be read, or holds too little of what the recipe asks for."""


class VaultError(ShuyuanError):
    """A seal does not open: wrong key, changed bytes, a file out of place or out of time."""


class RunError(ShuyuanError):
    """The run folder is locked, of another recipe, or lacks what the verb needs."""


class MachineError(ShuyuanError):
    """This machine lacks what the work needs: memory, disk, a device or an extra."""


class TrainError(ShuyuanError):
    """Training cannot go on: the loss stays non-finite, or a checkpoint does not fit the model."""


class PrivacyError(ShuyuanError):
    """What was asked would break the privacy guarantee, or leaves it undefined."""


class ServeError(ShuyuanError):
    """The server refuses a request, or cannot be started as asked.

    Args:
        code, what, mend, where: as of `ShuyuanError`.
        status: the HTTP status that says so.
        headers: that go with it.
    """

    def __init__(
        self,
        code: str,
        what: str,
        *,
        mend: str,
        where: str | None = None,
        status: int = 400,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(code, what, mend=mend, where=where)
        self.status = status
        self.headers = headers or {}


class Interrupted(ShuyuanError):  # noqa: N818 - it is obedience, not an error
    """SIGINT or SIGTERM was obeyed: the state is saved, and the same command goes on from there."""

    exit_status = 130


_NOT_MINE = "Let this user write there"
_MENDS = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some of the quota",
    errno.EROFS: "Mount the disk for writing",
    errno.EACCES: _NOT_MINE,
    errno.EPERM: _NOT_MINE,
}


def cannot_write(error: OSError, where: str | Path) -> MachineError:
    """The error for a disk that refuses a write: it is full, read-only, or this user may not.

    Args:
        error: as the system raised it.
        where: the file or folder.
    """
    return MachineError(
        "machine.cannot-write",
        f"The disk refuses a write ({error.strerror or type(error).__name__}).",
        where=str(where),
        mend=f"{_MENDS.get(error.errno or 0, 'Mend the disk')}, then run the same command again; what was there before is "
        "as it was.",
    )


def cannot_read(error: OSError, where: str | Path) -> MachineError:
    """The error for a file that is there, and that this user may not read.

    Args:
        error: as the system raised it.
        where: the file.
    """
    return MachineError(
        "machine.cannot-read",
        f"The file cannot be read ({error.strerror}).",
        where=str(where),
        mend="Let this user read it, then run the same command again.",
    )


def out_of_memory(error: BaseException) -> MachineError | None:
    """The error for memory that is exhausted, whichever library said so; None if `error` says something else.

    Args:
        error: any exception.
    """
    named = isinstance(error, MemoryError) or type(error).__name__ in (
        "OutOfMemoryError",
        "ResourceExhaustedError",
    )
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in _EXHAUSTED)
    if not named and not said:
        return None
    return MachineError(
        "machine.out-of-memory",
        "The memory is exhausted; what was written is whole.",
        mend="End what else needs memory and run the same command again; or start a new run with a smaller train.micro_batch, "
        "model.context or model.size.",
    )


_EXHAUSTED = ("can't allocate memory", "out of memory")  # as PyTorch says it, for want of a type


def first_line(error: BaseException) -> str:
    """What a library says of an error in one line, 300 characters at most; the error's kind where it says nothing.

    Args:
        error: of a library that quotes no record.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def missing_extra(feature: str, extra: str) -> MachineError:
    """The error for an optional library that is not installed; names the one command that installs it.

    Args:
        feature: what needs it, as a sentence begins: "Reading .zst files".
        extra: its name among the package's optional ones, such as "zstd".
    """
    return MachineError(
        "machine.missing-extra",
        f"{feature} needs a library that is not installed.",
        mend=f"Install it with: pip install 'shuyuan[{extra}]'",
    )
