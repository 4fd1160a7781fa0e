"""What every source is: a stream of rows that can be read again, with cheap facts that tell whether it changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

Skipped = Counter[str]  # reason -> number of records or files left out
Granule = Literal["file", "line", "paragraph"]

# The longest record, in characters of text or bytes of a JSON line. Longer ones would need several times their size
# in memory at once.
RECORD_LIMIT = 128_000_000


class Row(NamedTuple):
    """One row of a source.

    Attributes:
        values: column name to value.
        where: where it stands ("file:line"), for errors.
    """

    values: Mapping[str, Any]
    where: str


@dataclass(frozen=True)
class Fact:
    """What tells cheaply whether a source changed.

    Attributes:
        path: of the file.
        size: in bytes.
        modified_ns: when it was last written, in nanoseconds since 1970.
    """

    path: str
    size: int
    modified_ns: int


def fact_of(path: Path) -> Fact:
    """The facts of a file, as it is now; one that is gone meanwhile has none, and so is seen to have changed."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return Fact(str(path), 0, 0)
    return Fact(str(path), status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class ImageFacts:
    """The one shape of all images of a run.

    Attributes:
        height, width: in pixels.
        channels: 1 (grey) or 3 (colour).
    """

    height: int
    width: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width), as networks read it."""
        return self.channels, self.height, self.width

    @property
    def bytes(self) -> int:
        """Of one image: a byte for each channel of each pixel."""
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class Wanted:
    """What the recipe wants of a source.

    Attributes:
        text: the column under which plain text is given.
        columns: the columns that are read; formats that can leave others out do so.
        record: what one record of plain text is; None lets the source decide.
        rows_at_once: of a table that is read by many rows at a time.
    """

    text: str
    columns: tuple[str, ...]
    record: Granule | None = None
    rows_at_once: int = 1024


@dataclass(frozen=True)
class WantedImages:
    """What the recipe wants of a source of images.

    Attributes:
        image: the column under which an image is given: as an array (H, W) or (H, W, C) of bytes, or encoded.
        label: the column under which its label is given.
        columns: the columns that are read, these two among them; formats that can leave others out do so.
    """

    image: str
    label: str
    columns: tuple[str, ...]


class Source(ABC):
    """A stream of rows, the same each time it is read.

    Attributes:
        owner: the column that says whom a row is about where the recipe names none.
        contiguous: whether the rows are blocks of one text, in order.
        plain: whether some of it is plain text, of which `data.record` says what one record is.
        total_bytes: bytes to read, or None where nobody knows.
        records: rows to read, where the format says how many.
        image: the shape of every image, where the format fixes it.
    """

    owner: ClassVar[str | None] = None
    contiguous = False
    plain = False
    total_bytes: int | None = None
    records: int | None = None
    image: ImageFacts | None = None

    @abstractmethod
    def facts(self) -> list[Fact]:
        """The facts of every file that is read."""

    @abstractmethod
    def rows(self, skipped: Skipped) -> Iterator[Row]:
        """Every row, in the same order each time; what is left out is counted in `skipped` by reason.

        Args:
            skipped: reason to number of records, or of files.

        Raises:
            DataError: a file cannot be read, or is not what its format says.
        """

    @property
    @abstractmethod
    def position(self) -> int:
        """Bytes read so far by the last `rows`."""
