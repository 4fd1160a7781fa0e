"""What `verify` looks at in a sealed run: every file that should be there, and every file that is."""

from __future__ import annotations

from pathlib import Path

from ..errors import MachineError, VaultError
from ..runs import LOCK_FILE
from .index import Entry
from .names import PARTIAL, epoch_of, is_ours
from .reading import Shelf, digest_of
from .seal import HEADER_BYTES, Header
from .store import Problem


def verify(shelf: Shelf, expect: str | None) -> list[Problem]:
    """Opens every segment of every file, and every line of every journal.

    Args:
        shelf: the run, its index loaded and held against its head.
        expect: a head noted earlier, which the run must have gone through.

    Returns:
        One problem a file; none if all is well.
    """
    problems = []
    for name, entry in sorted(shelf.index.entries.items()):
        try:
            _check(shelf, name, entry)
        except (VaultError, MachineError) as error:
            problems.append(Problem(shelf.place(name, entry), error.what))
    problems += _strangers(shelf)
    heads = {*shelf.index.previous, *shelf.index.history}
    if expect is not None and expect.strip().lower() not in heads:
        what = "the expected head is not in the history of this run: the whole folder is an older state, or another run"
        problems.append(Problem(shelf.index.path.name, what))
    return problems


def problem(folder: Path, error: VaultError) -> Problem:
    """An error that names a file of the run, as a problem."""
    where = Path(error.where or ".")
    return Problem(
        where.relative_to(folder).as_posix() if where.is_relative_to(folder) else str(where), error.what
    )


def _check(shelf: Shelf, name: str, entry: Entry) -> None:
    if entry.kind != "log":
        reader = shelf.open(name)
        try:
            reader.check()
        finally:
            reader.close()
        return
    log, _ = shelf.log(name, entry)
    if shelf.index.clean and not shelf.index.behind and (log.ragged or log.mark != entry.mark):
        raise VaultError(
            "vault.broken-log", f"There is more in {name} than was written.", mend="Restore it from a copy."
        )


def _strangers(shelf: Shelf) -> list[Problem]:
    """Files that the index does not know. After a crash, or beside a writer, unfinished ones are no problem."""
    index = shelf.index
    known = {shelf.place(name, entry) for name, entry in index.entries.items()}
    known |= {index.path.name, index.head_path.name, LOCK_FILE}
    past = {identity[:32]: name for identity, (name, _) in index.past.items()}
    unfinished = {shelf.place(name, entry) for name, entry in index.superseded}
    unfinished |= {
        name for name, digest in [index.pending or ("", "")] if digest_of(shelf.folder / name) == digest
    }
    problems = []
    for file in sorted(shelf.folder.rglob("*")):
        place = file.relative_to(shelf.folder).as_posix()
        if place in known or place in unfinished or (file.is_dir() and not file.is_symlink()):
            continue
        if is_ours(file, shelf.key.run) and file.name[:32] in past:
            problems.append(Problem(place, f"an older state of {past[file.name[:32]]} was put back here"))
        elif not _is_explained(shelf, file, place):
            problems.append(
                Problem(place, "the run has no such file: it was put here, or put back from an older state")
            )
    return problems


def _is_explained(shelf: Shelf, file: Path, place: str) -> bool:
    """Whether a write or a re-encryption that was broken off, or is at work just now, can have left this file."""
    index = shelf.index
    orderly = index.clean and not index.behind
    if file.name.endswith(PARTIAL):
        return not orderly
    epoch = epoch_of(place) if "/" not in place else _epoch_of_sealed(shelf, file)
    if epoch is None:
        return False
    return index.heads[-1].count == 1 if epoch < shelf.key.epoch else not orderly


def _epoch_of_sealed(shelf: Shelf, file: Path) -> int | None:
    if not is_ours(file, shelf.key.run):
        return None
    try:
        with file.open("rb") as data:
            header = Header.unpack(data.read(HEADER_BYTES))
    except OSError:
        header = None
    return header.epoch if header is not None else shelf.key.epoch  # broken off before its header was written
