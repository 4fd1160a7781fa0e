"""NumPy's .npz: an array of images and one of their labels, read one image after the other, and never unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from ...errors import DataError, first_line
from .base import Fact, ImageFacts, Row, Skipped, Source, WantedImages, fact_of
from .shapes import check_pixels

_USUAL = (("images", "labels"), ("x", "y"))
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_ROW_LIMIT = 4096  # bytes of a label or an owner


class NpzFile(Source):
    """The rows of the arrays of an .npz file: images (N, H, W), (N, H, W, C) or (N, C, H, W) of bytes, and a label each.

    The arrays are called as the columns that the recipe names, or `images` and `labels`, or `x` and `y`.

    Args:
        path: the file.
        wanted: the columns to read; those beside image and label are arrays of that name.

    Raises:
        DataError: it is no such file, or its arrays are not of these shapes and types.
    """

    def __init__(self, path: Path, wanted: WantedImages) -> None:
        self._path, self._wanted = path, wanted
        self._size = self.total_bytes = fact_of(path).size
        self._count = self._done = 0
        with self._opened() as arrays:
            images = arrays[wanted.image]
            self.image, self._channels_first = images.image_facts()
            self._count = self.records = images.count
            for column, array in arrays.items():
                if column != wanted.image:
                    array.check_values(images.count)

    def facts(self) -> list[Fact]:
        return [fact_of(self._path)]

    @property
    def position(self) -> int:
        return self._size * self._done // max(1, self._count)

    def rows(self, skipped: Skipped) -> Iterator[Row]:
        with self._opened() as arrays:
            for number in range(1, self._count + 1):
                values = {column: array.read() for column, array in arrays.items()}
                if self._channels_first:
                    values[self._wanted.image] = values[self._wanted.image].transpose(1, 2, 0)
                self._done = number
                yield Row(values, f"{self._path}:image {number}")
            for array in arrays.values():
                array.check_end()

    @contextmanager
    def _opened(self) -> Iterator[dict[str, _Array]]:
        """The wanted arrays by column, each at its first row."""
        try:
            with ExitStack() as files:
                archive = files.enter_context(zipfile.ZipFile(self._path))
                names = self._names({name.removesuffix(".npy") for name in archive.namelist()})
                yield {
                    column: _Array(files.enter_context(archive.open(f"{name}.npy")), name, self._path)
                    for column, name in names.items()
                }
        except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(
                "data.damaged",
                f"This is not a whole .npz file ({first_line(error)}).",
                where=str(self._path),
                mend="Restore it from a copy, or write it again with numpy.savez.",
            ) from None

    def _names(self, held: set[str]) -> dict[str, str]:
        """Which array each wanted column is."""
        wanted = (self._wanted.image, self._wanted.label)
        pair = next((pair for pair in (wanted, *_USUAL) if held.issuperset(pair)), None)
        names = {column: column for column in self._wanted.columns}
        names |= dict(zip(wanted, pair or wanted, strict=True))
        if missing := [name for name in names.values() if name not in held]:
            raise DataError(
                "data.no-array",
                f"There is no array `{missing[0]}`.",
                where=str(self._path),
                mend="Name the arrays of images and labels as `data.image` and `data.label`. "
                f"Found: {', '.join(sorted(held)) or 'none'}.",
            )
        return names


class _Array:
    """An array of the file, read row by row: what its header claims takes no memory."""

    def __init__(self, stream: IO[bytes], name: str, path: Path) -> None:
        self._stream, self._name, self._path = stream, name, path
        read_header = _HEADERS.get(npy.read_magic(stream))
        if read_header is None:
            raise ValueError("an array of an unknown version")
        shape, fortran, self._dtype = read_header(stream)
        if self._dtype.hasobject:
            raise self._refused("holds Python objects, which would have to be unpickled")
        if not shape or (fortran and len(shape) > 1):
            raise self._refused("is a single value" if not shape else "is not in C order")
        self.count, self._shape = shape[0], shape[1:]

    def image_facts(self) -> tuple[ImageFacts, bool]:
        """The shape of an image, and whether its channels come first.

        Raises:
            DataError: these are no images.
        """
        if self._dtype != np.uint8:
            raise self._refused(f"holds {self._dtype}, and images are bytes (uint8) from 0 to 255")
        *sides, channels = self._shape if len(self._shape) == 3 else (*self._shape, 1)
        first = channels not in (1, 3)
        if first:
            channels, *sides = self._shape
        if len(sides) != 2 or channels not in (1, 3):
            raise self._refused(
                f"has the shape {(self.count, *self._shape)}, and images are (N, H, W) or (N, H, W, 1 or 3)"
            )
        height, width = sides
        check_pixels(height, width, str(self._path))
        return ImageFacts(height, width, channels), first

    def check_values(self, count: int) -> None:
        """Refuses an array that does not hold one number or text for each of `count` images.

        Raises:
            DataError: it does not.
        """
        if self.count != count:
            raise DataError(
                "data.counts-differ",
                f"There are {count:,} images, and `{self._name}` has {self.count:,} values.",
                where=str(self._path),
                mend="Write one value for each image.",
            )
        if (
            self._shape not in ((), (1,))
            or self._dtype.kind not in "biuU"
            or self._dtype.itemsize > _ROW_LIMIT
        ):
            shape = (self.count, *self._shape)
            raise self._refused(
                f"holds {self._dtype} of shape {shape}, and labels are one whole number or text each"
            )

    def read(self) -> Any:
        """The next row: an array, or the one value of it."""
        size = int(np.prod(self._shape, dtype=np.int64)) * self._dtype.itemsize
        content = self._stream.read(size)
        if len(content) != size:
            raise EOFError(f"`{self._name}` ends early")
        row = np.frombuffer(content, self._dtype).reshape(self._shape)
        return row.item() if row.size == 1 and self._shape in ((), (1,)) else row

    def check_end(self) -> None:
        """Reads on to the end, where the archive's checksum is compared."""
        if self._stream.read(1):
            raise ValueError(f"`{self._name}` goes on after its last row")

    def _refused(self, why: str) -> DataError:
        return DataError(
            "data.bad-npz",
            f"The array `{self._name}` {why}.",
            where=str(self._path),
            mend="Save it again: numpy.savez(FILE, images=…, labels=…), with images as uint8 and labels as whole numbers or text.",
        )
