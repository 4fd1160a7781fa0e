"""IDX, the format of MNIST and of what came after it: a file of images, and beside it one of their labels.

A file begins with its magic number (two zero bytes, 8 for unsigned bytes, the number of dimensions) and the dimensions as big-endian
32-bit numbers; the values follow (LeCun, Cortes and Burges, "The MNIST database", 1998).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...errors import DataError
from .base import Fact, ImageFacts, Row, Skipped, Source, WantedImages, fact_of
from .opening import Meter, open_bytes
from .shapes import check_pixels

NAME = re.compile(r"idx(\d)-ubyte(\.gz)?$")
IMAGES, LABELS = 0x803, 0x801  # magic numbers
_READ_BYTES = 1024 * 1024  # of pixels, at once


class IdxFile(Source):
    """The images of an IDX file, with the labels of the file beside it.

    Args:
        path: the file of images, `…images-idx3-ubyte`, plain or .gz; that of the labels is `…labels-idx1-ubyte`, either too.
        wanted: under which columns image and label are given.

    Raises:
        DataError: one of the two is no such file, the labels are not there, or there are more of one than of the other.
    """

    def __init__(self, path: Path, wanted: WantedImages) -> None:
        self._path, self._wanted = path, wanted
        self._labels = _labels_beside(path)
        with _opened(path, IMAGES, Meter()) as (_, (count, height, width)):
            self.records, self.image = count, ImageFacts(height, width, 1)
        check_pixels(height, width, str(path))
        with _opened(self._labels, LABELS, Meter()) as (_, (labels,)):
            if labels != count:
                raise DataError(
                    "data.counts-differ",
                    f"There are {count:,} images and {labels:,} labels.",
                    where=str(self._labels),
                    mend="Put the two files of one set beside each other.",
                )
        self.total_bytes = sum(fact.size for fact in self.facts())
        self._meters = (Meter(), Meter())

    def facts(self) -> list[Fact]:
        return [fact_of(self._path), fact_of(self._labels)]

    @property
    def position(self) -> int:
        return sum(meter.position for meter in self._meters)

    def rows(self, skipped: Skipped) -> Iterator[Row]:
        self._meters = of_images, of_labels = Meter(), Meter()
        with (
            _opened(self._path, IMAGES, of_images) as (images, (count, height, width)),
            _opened(self._labels, LABELS, of_labels) as (labels, _),
        ):
            at_once = max(1, _READ_BYTES // (height * width))
            for start in range(0, count, at_once):
                here = min(at_once, count - start)
                pixels = np.frombuffer(_exactly(images, here * height * width, self._path), np.uint8)
                kinds = _exactly(labels, here, self._labels)
                for number, image in enumerate(pixels.reshape(here, height, width)):
                    values = {self._wanted.image: image, self._wanted.label: kinds[number]}
                    yield Row(values, f"{self._path}:image {start + number + 1}")
            _at_end(labels, self._labels)
            _at_end(images, self._path)


@contextmanager
def _opened(path: Path, magic: int, meter: Meter) -> Iterator[tuple[BinaryIO, tuple[int, ...]]]:
    """The file behind its header, and its dimensions."""
    with open_bytes(path, meter) as stream:
        found = int.from_bytes(_exactly(stream, 4, path), "big")
        if found != magic:
            raise DataError(
                "data.bad-idx",
                f"This is no IDX file of {'images' if magic == IMAGES else 'labels'}: it begins with {found:#010x}, not {magic:#010x}.",
                where=str(path),
                mend="Name a file of images, …images-idx3-ubyte, with its labels beside it, …labels-idx1-ubyte.",
            )
        dimensions = magic & 0xFF
        yield stream, struct.unpack(f">{dimensions}I", _exactly(stream, 4 * dimensions, path))


def _exactly(stream: BinaryIO, size: int, path: Path) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise _other_length(path, "ends early")
    return content


def _at_end(stream: BinaryIO, path: Path) -> None:
    if stream.read(1):
        raise _other_length(path, "goes on")


def _other_length(path: Path, what: str) -> DataError:
    return DataError(
        "data.bad-idx",
        f"The file {what}: its length is not what its header says.",
        where=str(path),
        mend="Restore it from a copy, or fetch it again.",
    )


def _labels_beside(path: Path) -> Path:
    """The file of labels that belongs to a file of images."""
    name = re.sub(r"images(.)idx3", r"labels\1idx1", path.name)
    plain = name.removesuffix(".gz")
    several = [path.with_name(each) for each in dict.fromkeys((name, plain, f"{plain}.gz"))]
    if name == path.name:
        raise DataError(
            "data.bad-idx",
            "The name does not say which file holds its labels.",
            where=str(path),
            mend="Call the files …images-idx3-ubyte and …labels-idx1-ubyte, and name the first.",
        )
    for each in several:
        if each.is_file():
            return each
    raise DataError(
        "data.no-labels",
        f"The labels of these images are not there: {several[0].name}.",
        where=str(path),
        mend="Put the file of labels beside the file of images, plain or as .gz.",
    )
