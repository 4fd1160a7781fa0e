"""Which files of images there are: folders of classes, IDX, .npz and tables, each a source of its own, or several as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import DataError
from . import idx, tables
from .base import Fact, Row, Skipped, Source, WantedImages
from .files import matches
from .idx import IdxFile
from .image_folder import ImageFolder
from .image_table import ImageTable
from .npz import NpzFile
from .opening import inner_suffix


def open_images(paths: list[Path], wanted: WantedImages) -> Source:
    """The source that paths and globs name.

    Args:
        paths: of files, folders, or globs.
        wanted: what the recipe wants of them.

    Raises:
        DataError: nothing is there, or it holds no images with labels.
    """
    parts: list[Source] = []
    for path in paths:
        if path.is_dir():
            parts.append(ImageFolder(path, wanted))
        else:
            parts += [_file(each, wanted) for each in matches(path)]
    return parts[0] if len(parts) == 1 else Several(parts)


def _file(path: Path, wanted: WantedImages) -> Source:
    if idx.NAME.search(path.name):
        return IdxFile(path, wanted)
    if path.suffix.lower() == ".npz":
        return NpzFile(path, wanted)
    if inner_suffix(path) in tables.READERS:
        return ImageTable(path, wanted)
    raise DataError(
        "data.no-images",
        "This is no file of images with their labels.",
        where=str(path),
        mend="Name a folder with a folder of images for each label, an IDX or .npz file, or a table with a column of images.",
    )


class Several(Source):
    """Sources one after another."""

    def __init__(self, parts: list[Source]) -> None:
        self._parts = parts
        self.total_bytes = _sum(part.total_bytes for part in parts)
        self.records = _sum(part.records for part in parts)
        shapes = {part.image for part in parts}
        self.image = shapes.pop() if len(shapes) == 1 else None

    def facts(self) -> list[Fact]:
        return [fact for part in self._parts for fact in part.facts()]

    @property
    def position(self) -> int:
        return sum(part.position for part in self._parts)

    def rows(self, skipped: Skipped) -> Iterator[Row]:
        for part in self._parts:
            yield from part.rows(skipped)


def _sum(numbers: Iterator[int | None]) -> int | None:
    """Their sum, or None where one is unknown."""
    known = list(numbers)
    return None if None in known else sum(number or 0 for number in known)
