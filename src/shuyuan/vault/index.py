"""What a sealed run holds, and in which state: a sealed log of every write, with a signed head beside it.

The index makes one whole of many sealed files. A record in it is the moment at which a write, a folder or a removal
happens: before it the new files are nobody's, after it the old ones are. The head file says how long the index is, so
that neither of the two can be put back alone.

A record is a JSON object; its members are applied in this order:
    new     {"secret": hex, "previous": [hex]} the first record: the secret of derived keys; heads before re-encryption
    put     [[name, generation, salt]]         sealed files
    log     [[name, generation, salt]]         journals
    open    [[name, generation, sha256]]       files that stay in the clear
    drop    [name]                             what is gone
    anchor  [[name, count, tag]]               how far journals go
    intent  [name, sha256]                     a file in the clear is about to be replaced
    clean   true                               the run was closed in good order
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import VaultError, cannot_read
from ..runs import sync_folder
from . import disk
from .head import Head, Signer, first_head
from .journal import START, Mark, SealedLog
from .names import PARTIAL, head_file, index_file
from .seal import HEADER_BYTES, DataKey, Header, Role

INDEX_NAME = "index"  # its logical name; the role in its header keeps it apart from a file of that name
KINDS: tuple[Literal["put", "log", "open"], ...] = ("put", "log", "open")


@dataclass
class Entry:
    """The newest state of one logical name.

    Args:
        kind: sealed file, journal, or file in the clear.
        generation: how often the name has been written.
        identity: hex of the salt; of the SHA-256 of the content for a file in the clear.
        mark: how far a journal goes, at least.
    """

    kind: Literal["put", "log", "open"]
    generation: int
    identity: str
    mark: Mark = START


class Index:
    """The state of a sealed run, as replayed from its index.

    Args:
        folder: the run folder.
        key: the data key.

    Attributes:
        path: the index file.
        head_path: its head file.
        entries: what there is, by logical name.
        past: (name, generation) of what there was, by identity.
        pending: (name, sha256) of a file in the clear that a crash may have replaced or not.
        heads: the head after each record; heads[0] is that of the bare header.
        secret: what derived keys come from; it outlives the data key.
        previous: hex of the heads that the run went through under earlier data keys.
        clean: whether the last writer closed the run in good order.
        superseded: what is old since the last signed head, and still to be removed.
    """

    def __init__(self, folder: Path, key: DataKey) -> None:
        self.path = folder / index_file(key.epoch)
        self.head_path = folder / head_file(key.epoch)
        self._key = key
        self.signer = Signer(key)
        self._log: SealedLog
        self._signed = 0  # how many records the head file counts
        self._generations: dict[str, int] = {}
        self.entries: dict[str, Entry] = {}
        self.past: dict[str, tuple[str, int]] = {}
        self.pending: tuple[str, str] | None = None
        self.heads: list[Head] = []
        self.secret = b""
        self.previous: list[str] = []
        self.clean = False
        self.superseded: list[tuple[str, Entry]] = []

    def next_generation(self, name: str) -> int:
        """The generation of the next write of that name; counting goes on after a removal."""
        return self._generations.get(name, 0) + 1

    # -- making and reading --

    def create(self, record: dict[str, Any]) -> None:
        """Makes the file of a new index, with its first record; to be loaded then."""
        header = Header(Role.INDEX, self._key.run, self._key.epoch, 1)
        partial = self.path.with_name(self.path.name + PARTIAL)
        with disk.writing(self.path):
            partial.unlink(missing_ok=True)
        SealedLog(partial, self._key, header, INDEX_NAME).create(_to_bytes(record))
        with disk.writing(self.path):
            partial.replace(self.path)
        sync_folder(self.path.parent)

    def load(self, *, writer_at_work: bool = False) -> None:
        """Replays the index and holds it against its head.

        Args:
            writer_at_work: another process is writing, so the index may be ahead of the head, or end in half a line.

        Raises:
            VaultError: index or head are changed, gone, or from another time than the other.
        """
        signed = self.signer.read(self.head_path)  # before the index, which only grows
        header = self._read_header()
        self._log = SealedLog(self.path, self._key, header, INDEX_NAME)
        self.heads = [first_head(header.pack())]
        self._signed = signed.count if signed else 0
        ahead: list[dict[str, Any]] = []
        for content, line in self._log.lines():
            record = json.loads(content)
            superseded = self._apply(record, line)
            if self.heads[-1].count > self._signed:
                self.superseded += superseded
                ahead.append(record)
        self._compare(signed)
        if not writer_at_work:
            self._check_ahead(signed, ahead)

    def _read_header(self) -> Header:
        try:
            with self.path.open("rb") as file:
                header = Header.unpack(file.read(HEADER_BYTES))
        except FileNotFoundError:
            raise self._rolled_back(self.path, "the index is gone") from None
        except PermissionError as error:
            raise cannot_read(error, self.path) from None
        except OSError as error:
            raise self._rolled_back(self.path, f"the index cannot be read ({error.strerror})") from None
        if header is None or (header.role, header.run, header.epoch) != (
            Role.INDEX,
            self._key.run,
            self._key.epoch,
        ):
            raise self._rolled_back(self.path, "the index is damaged, or is that of another run")
        return header

    def _compare(self, signed: Head | None) -> None:
        count = self.heads[-1].count
        if count < max(self._signed, 1):
            raise self._rolled_back(
                self.path, "records of the index are gone: it was cut, or an older one was put back"
            )
        if signed is not None and self.heads[signed.count] != signed:
            raise self._rolled_back(
                self.head_path,
                "index and signed head do not belong together; one of them is from another past of this run",
            )

    def _check_ahead(self, signed: Head | None, ahead: list[dict[str, Any]]) -> None:
        """A crash leaves the head one record behind, or two of which the first only announces the second."""
        if signed is None and self.heads[-1].count > 1:
            raise self._rolled_back(self.head_path, "the signed head is gone")
        if len(ahead) > 2 or (len(ahead) == 2 and "intent" not in ahead[0]):
            raise self._rolled_back(self.head_path, "the signed head is older than the index")

    def _rolled_back(self, path: Path, what: str) -> VaultError:
        return VaultError(
            "vault.broken-index",
            f"The state of the run cannot be trusted: {what}.",
            where=str(path),
            mend="Restore the newest copy of the whole run folder.",
        )

    # -- writing --

    @property
    def history(self) -> list[str]:
        """Hex of all heads that the run has gone through under this data key."""
        return [head.digest.hex() for head in self.heads[1:]]

    @property
    def behind(self) -> int:
        """How many records the head file does not count."""
        return self.heads[-1].count - self._signed

    def append(self, record: dict[str, Any]) -> None:
        """Adds a record; when this returns, it has happened."""
        line = self._log.append(_to_bytes(record))
        self.superseded += self._apply(record, line)

    def sign(self) -> None:
        """Writes the head file. What was superseded is removed by then, or it will look like an old file put back."""
        self.signer.write(self.head_path, self.heads[-1])
        self._signed = self.heads[-1].count
        self.superseded = []

    def _apply(self, record: dict[str, Any], line: bytes) -> list[tuple[str, Entry]]:
        self.heads.append(self.heads[-1].after(line))
        superseded: list[tuple[str, Entry]] = []
        if "new" in record:
            self.secret, self.previous = bytes.fromhex(record["new"]["secret"]), record["new"]["previous"]
        for kind in KINDS:
            for name, generation, identity in record.get(kind, []):
                superseded += self._retire(name)
                self.past.pop(identity, None)  # the same content in the clear may come again
                self.entries[name] = Entry(kind, generation, identity)
                self._generations[name] = generation
        for name in record.get("drop", []):
            superseded += self._retire(name)
        for name, count, tag in record.get("anchor", []):
            self.entries[name].mark = Mark(count, bytes.fromhex(tag))
        self.pending = (record["intent"][0], record["intent"][1]) if "intent" in record else None
        self.clean = "clean" in record
        return superseded

    def _retire(self, name: str) -> list[tuple[str, Entry]]:
        entry = self.entries.pop(name, None)
        if entry is None:
            return []
        self.past[entry.identity] = (name, entry.generation)
        return [(name, entry)]


def _to_bytes(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
