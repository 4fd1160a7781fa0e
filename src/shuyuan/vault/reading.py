"""How the files of a sealed run are found and opened, and what is said of one that is not what it should be."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import ShuyuanError, VaultError, cannot_read
from .clear_file import missing
from .index import Entry, Index
from .journal import SealedLog
from .names import sealed_path
from .permit import Permit
from .seal import HEADER_BYTES, DataKey, Header, Role, SealedReader, broken


@dataclass(frozen=True)
class Shelf:
    """A run folder, its data key and its index: all that is needed to find and open a file."""

    folder: Path
    key: DataKey
    index: Index

    def place(self, name: str, entry: Entry) -> str:
        """Where a file lies, relative to the run folder."""
        if entry.kind == "open":
            return name
        return sealed_path(name, self.key.run, bytes.fromhex(entry.identity))

    def header(self, entry: Entry) -> Header:
        """What a sealed file must begin with."""
        role = Role.FILE if entry.kind == "put" else Role.JOURNAL
        return Header(role, self.key.run, self.key.epoch, entry.generation, bytes.fromhex(entry.identity))

    def open(self, name: str) -> SealedReader | HeldReader:
        """Opens a file, sealed or in the clear.

        Raises:
            RunError: there is no such file.
            VaultError: it is not what was last written under that name.
        """
        entry = self.index.entries.get(name)
        if entry is None:
            raise missing(self.folder / name, "The run has no such file.")
        path = self.folder / self.place(name, entry)
        if entry.kind == "open":
            return self._open_clear(path, name, entry)
        if entry.kind == "log":
            raise missing(self.folder / name, "This is a log, and is read line by line.")
        self._check_header(path, name, entry)
        try:
            return SealedReader(path, self.key, self.header(entry), name)
        except OSError as error:
            raise _lost(path, name, error) from None

    def permit(self, name: str) -> Permit:
        """Lets another process read a sealed file.

        Raises:
            RunError, VaultError: as of `open`.
        """
        entry = self.index.entries.get(name)
        if entry is None or entry.kind != "put":
            raise missing(self.folder / name, "The run has no such file.")
        path = self.folder / self.place(name, entry)
        self._check_header(path, name, entry)
        return self.permit_of(path, self.header(entry), name)

    def permit_of(self, path: Path, header: Header, name: str) -> Permit:
        """The permit for a sealed file that lies there, or will."""
        packed = header.pack()
        return Permit(str(path.absolute()), name, packed.hex(), self.key.file_key(packed, name).secret.hex())

    def log(self, name: str, entry: Entry) -> tuple[SealedLog, list[bytes]]:
        """A journal, ready for its next line, and the content of its lines.

        Raises:
            VaultError: it is not the journal of that name, a line does not open, or lines are gone.
        """
        path = self.folder / self.place(name, entry)
        self._check_header(path, name, entry)
        log = SealedLog(path, self.key, self.header(entry), name)
        try:
            return log, log.read(entry.mark)
        except OSError as error:
            raise _lost(path, name, error) from None

    def _open_clear(self, path: Path, name: str, entry: Entry) -> HeldReader:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _lost(path, name, error) from None
        digest = hashlib.sha256(data).hexdigest()
        if digest != entry.identity and self.index.pending != (name, digest):
            if digest in self.index.past:
                raise _put_back(path, name)
            raise VaultError(
                "vault.changed-file",
                f"{name} is not as Shuyuan wrote it: it was changed.",
                where=str(path),
                mend="Restore the file from a copy, or have it written again.",
            )
        return HeldReader(data)

    def _check_header(self, path: Path, name: str, entry: Entry) -> None:
        try:
            with path.open("rb") as file:
                data = file.read(HEADER_BYTES)
        except OSError as error:
            raise _lost(path, name, error) from None
        if data == self.header(entry).pack():
            return
        found = Header.unpack(data)
        if found is None:
            raise broken(path, name, "the beginning of the file was changed or cut")
        if found.run != self.key.run:
            raise broken(path, name, "the file comes from another run")
        if self.index.past.get(found.salt.hex(), ("", 0))[0] == name or found.epoch < self.key.epoch:
            raise _put_back(path, name)
        raise broken(path, name, "another file was put in its place, or its beginning was changed")


class HeldReader:
    """Random access to a file in the clear, which was read whole to check it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, count: int) -> bytes:
        return self._data[offset : offset + count]

    def check(self) -> None:
        """It was checked when it was read."""

    def close(self) -> None: ...


def digest_of(path: Path) -> str | None:
    """Hex of the SHA-256 of a file in the clear; None if there is none.

    Raises:
        MachineError: this user may not read it.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except PermissionError as error:
        raise cannot_read(error, path) from None
    except OSError:
        return None


def _lost(path: Path, name: str, error: OSError) -> ShuyuanError:
    if isinstance(error, PermissionError):
        return cannot_read(error, path)
    return VaultError(
        "vault.lost-file",
        f"The file that holds {name} cannot be read ({error.strerror}).",
        where=str(path),
        mend="Restore the file from a copy, or make it again with the verb that wrote it.",
    )


def _put_back(path: Path, name: str) -> VaultError:
    return VaultError(
        "vault.rolled-back",
        f"An older state of {name} was put back.",
        where=str(path),
        mend="Restore the newest copy of the run folder.",
    )
