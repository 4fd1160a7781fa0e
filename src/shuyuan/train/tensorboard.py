"""The log of a training once more as TensorBoard's event files, for those who look there: `tensorboard --logdir runs`.

At every start, and wherever training goes back, the file is written anew from the lines of the log that count, so that no step stands
in it twice; then each line adds one record by one write, so that a kill leaves whole records. There are numbers in it and never a text;
of a private run only those that follow from the recipe alone.

An event file is a row of TFRecords (length, payload and their checksums) that hold messages of tensorflow/core/util/event.proto. Three kinds
of them are needed, so the package `tensorboard`, which brings a web server, grpcio and protobuf, is not asked for.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

from ..vault import Journal, Store, disk
from .metrics import Line, valid_lines

FOLDER = "tensorboard"
SCALARS = {  # of each event of the log: its fields, and what TensorBoard calls them
    "train.step": {
        "loss": "loss/training",
        "learning_rate": "training/learning_rate",
        "gradient_norm": "training/gradient_norm",
        "tokens_per_second": "machine/tokens_per_second",
        "peak_bytes": "machine/peak_bytes",
    },
    "train.validation": {"loss": "loss/validation"},
    "train.checkpoint": {"epsilon": "privacy/epsilon"},
}
PUBLIC = ("learning_rate", "epsilon")  # what of a private run follows from the recipe alone
_BEGINS = ("train.start", "train.rollback")


class EventFile:
    """A journal whose lines become events too, beside it in the same run. For open runs: events lie in the clear.

    Args:
        journal: the log.
        store: the run's files.
        private: whether only what follows from the recipe is written.
    """

    def __init__(self, journal: Journal, store: Store, *, private: bool) -> None:
        self._journal = journal
        self._store = store
        self._private = private
        self._file = store.path / FOLDER / "none yet"

    def append(self, entry: Line) -> None:
        """Adds a line to the log, and its numbers to the event file."""
        self._journal.append(entry)
        if entry["event"] in _BEGINS or not self._file.exists():
            self._begin()
        elif record := self._record(entry):
            with disk.writing(self._file), self._file.open("ab", buffering=0) as out:
                if out.write(record) < len(record):
                    raise OSError(errno.ENOSPC, "No space left on device")

    def entries(self) -> Iterator[Line]:
        """Every whole line of the log, oldest first."""
        return self._journal.entries()

    def _begin(self) -> None:
        """Writes the file anew, under a name that comes after the last one's, by which a TensorBoard at work sees that it is new."""
        lines = list(self._journal.entries())
        number = sum(line["event"] in _BEGINS for line in lines)
        self._file = self._store.path / FOLDER / f"events.out.tfevents.{number:010d}.shuyuan"
        began = lines[-1]["time"]
        head = [_record(began, 0, VERSION), _record(began, 0, SESSION_START)]
        with self._store.folder(FOLDER) as folder:
            folder.write(self._file.name, *head, *map(self._record, valid_lines(lines)))

    def _record(self, line: Line) -> bytes:
        """The event of a line; empty where it has no numbers to show."""
        named = SCALARS.get(line["event"], {})
        values = {
            tag: float(line[field])
            for field, tag in named.items()
            if line.get(field) is not None and (field in PUBLIC or not self._private)
        }
        return _record(line["time"], line["step"], _summary(values)) if values else b""


# ---- the format ----------------------------------------------------------------------------------------------------


def _record(seconds: float, step: int, what: bytes) -> bytes:
    """One event as a TFRecord: its time since 1970, its step, and what it tells."""
    event = b"\x09" + struct.pack("<d", seconds) + b"\x10" + _varint(step) + what
    size = struct.pack("<Q", len(event))
    return size + _checksum(size) + event + _checksum(event)


def _summary(values: dict[str, float]) -> bytes:
    """Event.summary: named numbers (Summary.Value, with `tag` and `simple_value`)."""
    pairs = (
        _piece(1, _piece(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
        for tag, value in values.items()
    )
    return _piece(5, b"".join(pairs))


def _piece(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that has a length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _crc_table() -> list[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)  # Castagnoli's polynomial, reversed
        table.append(number)
    return table


_CRC = _crc_table()
VERSION = _piece(3, b"brain.Event:2")  # Event.file_version, the first of a file
SESSION_START = _piece(7, b"\x08\x01")  # Event.session_log: what a reader knows of later steps is void


def _checksum(data: bytes) -> bytes:
    """CRC-32C, masked as TFRecords have it, since data may hold checksums itself."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF)
