"""Writes that are on the disk when they return, and a clear refusal when the disk says no."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import cannot_write
from ..runs import sync_folder
from .names import PARTIAL


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses (a full disk, a read-only folder) into a MachineError.

    Args:
        path: what is written, which the error names.

    Raises:
        MachineError: what is done inside raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(error, path) from None


def write_at(handle: int, data: bytes | memoryview, offset: int) -> None:
    """Writes all of `data` at `offset`.

    Args:
        handle: of an open file.
        data: bytes.
        offset: in bytes from the file's beginning.
    """
    view = memoryview(data)
    while view:
        done = os.pwrite(handle, view, offset)
        view, offset = view[done:], offset + done


def create(path: Path) -> int:
    """Makes a new file, and its folder if need be; the folder is on disk, the file is empty.

    Args:
        path: where nothing may be yet.

    Returns:
        A handle for reading and writing, which the caller closes.

    Raises:
        OSError: there is a file already, or the disk refuses; inside `writing` it becomes a MachineError.
    """
    make_folder(path.parent)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def replace_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Puts `data` in the place of what is there: the old content stays until the new is whole and on disk.

    Args:
        path: of the file; its folder is made if need be.
        data: its whole content.
        mode: permission bits of the new file, less the process's umask. Default 0o666.

    Raises:
        MachineError: the disk refuses; what was there before stays.
    """
    partial = path.with_name(path.name + PARTIAL)
    with writing(path):
        try:
            make_folder(path.parent)
            partial.unlink(missing_ok=True)
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            try:
                write_at(handle, data, 0)
                os.fsync(handle)
            finally:
                os.close(handle)
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder and its parents, so that they survive a power cut.

    Args:
        folder: one that is there already stays as it is.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def remove_files(files: list[Path]) -> None:
    """Removes files; those that are gone already are fine. The removal is on disk when this returns.

    Args:
        files: any; not folders.

    Raises:
        MachineError: the disk refuses.
    """
    for file in files:
        with writing(file):
            file.unlink(missing_ok=True)
    for folder in {file.parent for file in files}:
        sync_folder(folder)
