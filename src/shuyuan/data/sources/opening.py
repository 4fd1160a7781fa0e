"""Opens a file of text for reading, whole or by pieces: compression, byte order marks, encodings, damage."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from ...errors import DataError, missing_extra

COMPRESSIONS = (".gz", ".zst")
_SNIFFED = 64 * 1024
_CHUNK = 1024 * 1024
_ZSTD_PIECE = 2048  # bytes that are decompressed at once: zeros grow thirty thousand times as long
_NEVER_IN_TEXT = set(range(32)) - set(b"\t\n\v\f\r\x1a\x1b")
_OTHER_MARKS = {  # the longer ones first: UTF-32 LE begins like UTF-16 LE
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def inner_suffix(path: Path) -> str:
    """The suffix that tells the format: `.csv` for both notes.csv and notes.csv.gz, in small letters."""
    if path.suffix.lower() in COMPRESSIONS:
        path = path.with_suffix("")
    return path.suffix.lower()


class Meter:
    """Counts the bytes that were read from disk over several files."""

    def __init__(self) -> None:
        self._done = 0
        self._raw: BinaryIO | None = None

    @property
    def position(self) -> int:
        return self._done + (self._raw.tell() if self._raw is not None and not self._raw.closed else 0)

    def begin(self, raw: BinaryIO) -> None:
        self._raw = raw

    def end(self, size: int) -> None:
        self._done += size
        self._raw = None


def cannot_open(path: Path, error: OSError) -> DataError:
    """What to say of a file that cannot be opened: it may not be read, or is not there."""
    if isinstance(error, FileNotFoundError):
        return DataError("data.missing", "There is no such file.", where=str(path), mend="Check the path.")
    return DataError(
        "data.unreadable",
        f"The file cannot be opened ({error.strerror}).",
        where=str(path),
        mend="Check its permissions.",
    )


@contextmanager
def open_bytes(path: Path, meter: Meter | None = None) -> Iterator[BinaryIO]:
    """Opens a file for reading, decompressed.

    Args:
        path: the file, which may be compressed: .gz or .zst.
        meter: counts the bytes that are read from disk. Default: nobody counts.

    Raises:
        DataError: it cannot be opened, its compression is damaged, or (raised inside) it is not UTF-8.
        MachineError: .zst without the extra `zstd`.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise cannot_open(path, error) from None
    meter = meter or Meter()
    with raw:
        meter.begin(raw)
        try:
            yield _decompressed(raw, path)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _damaged(path, error) from None
        except UnicodeDecodeError:
            raise _not_utf8(path) from None
        except OSError as error:
            raise DataError(
                "data.unreadable",
                f"Reading stopped ({error}).",
                where=str(path),
                mend="Check the disk, and read again.",
            ) from None
        finally:
            meter.end(path.stat().st_size)


def _decompressed(raw: BinaryIO, path: Path) -> BinaryIO:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if suffix == ".zst":
        try:
            import zstandard
        except ImportError:
            raise missing_extra("Reading .zst files", "zstd") from None
        return cast(BinaryIO, io.BufferedReader(_Zstd(raw, path, zstandard)))
    return raw


class _Zstd(io.RawIOBase):
    """Zstandard frames as a raw stream. Damage is our error, and so is a last frame without an end, which zstandard's own reader
    takes for the end of the data."""

    def __init__(self, raw: BinaryIO, path: Path, zstandard: Any) -> None:
        self._raw, self._path = raw, path
        self._begin, self._error = zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
        self._frame = self._begin()
        self._whole = True  # no frame is under way
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            piece = (self._frame.unused_data if self._frame.eof else b"") or self._raw.read(_ZSTD_PIECE)
            if not piece and self._whole:
                return 0
            if not piece:
                raise _damaged(self._path, EOFError("the last frame has no end"))
            self._decompress(piece)
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def _decompress(self, piece: bytes) -> None:
        if self._frame.eof:
            self._frame = self._begin()
        try:
            self._ready = memoryview(self._frame.decompress(piece))
        except self._error as error:
            raise _damaged(self._path, error) from None
        self._whole = self._frame.eof


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        "data.damaged",
        f"The compressed file is damaged or cut short ({error}).",
        where=str(path),
        mend="Restore it from a copy, or compress it again.",
    )


@contextmanager
def open_text(path: Path, meter: Meter | None = None, *, newline: str | None = None) -> Iterator[IO[str]]:
    """Opens a file of UTF-8 text; a byte order mark is passed over.

    Args:
        path: the file, which may be compressed: .gz or .zst.
        meter: counts the bytes that are read from disk. Default: nobody counts.
        newline: None turns every line end into a line feed, "" leaves them as they are.

    Raises:
        DataError: as `open_bytes`, or the file is binary or of another encoding.
    """
    check_start(path)
    with open_bytes(path, meter) as stream:
        text = io.TextIOWrapper(stream, "utf-8-sig", newline=newline)
        try:
            yield text
        finally:
            text.detach()


def check_start(path: Path) -> None:
    """Refuses a file whose first bytes are of another encoding, or of no text at all.

    Args:
        path: the file, which may be compressed.

    Raises:
        DataError: it is such a file, or cannot be opened.
    """
    with open_bytes(path) as stream:
        start = stream.read(_SNIFFED)
    for mark, name in _OTHER_MARKS.items():
        if start.startswith(mark):
            raise DataError(
                "data.not-utf8",
                f"The file is {name} text.",
                where=str(path),
                mend=f"Save it as UTF-8, for example: iconv -f {name} -t UTF-8 IN > OUT",
            )
    if start.count(0) > len(start) // 10:
        raise DataError(
            "data.binary",
            "The file is not text: it is full of NUL bytes.",
            where=str(path),
            mend="Name a file of UTF-8 text, or take it out of the source.",
        )


def check_text(path: Path) -> None:
    """Reads the whole file to see that it is UTF-8 text.

    Args:
        path: the file, which may be compressed.

    Raises:
        DataError: it is not, cannot be opened, or is damaged.
    """
    check_start(path)
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_bytes(path) as stream:
        while chunk := stream.read(_CHUNK):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)


def _not_utf8(path: Path) -> DataError:
    """The error that names the first byte that is not UTF-8, found by reading the file once more."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    seen = 0
    with path.open("rb") as raw:
        stream = _decompressed(raw, path)
        while True:
            chunk = stream.read(_CHUNK)
            held = len(decoder.getstate()[0])  # an unfinished character from the chunk before
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                offset = seen - held + error.start
                break
            if not chunk:  # whole now: the file was mended meanwhile
                offset = 0
                break
            seen += len(chunk)
    return DataError(
        "data.not-utf8",
        f"The file is not UTF-8: byte {offset:,} does not belong.",
        where=str(path),
        mend=_from_encoding(chunk),
    )


def _from_encoding(start: bytes) -> str:
    """How to mend a file of another encoding: the usual one of Chinese, or of Western text; or it is no text at all."""
    if _NEVER_IN_TEXT & set(start):
        return "Name a file of UTF-8 text, or take it out of the source."
    try:
        codecs.getincrementaldecoder("gb18030")().decode(start)
        name = "GB18030"
    except UnicodeDecodeError:
        name = "WINDOWS-1252"
    return f"Save it as UTF-8, for example: iconv -f {name} -t UTF-8 IN > OUT"
