"""A folder of images, a folder a class: the label of an image is the name of the folder that it lies in."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ...errors import DataError
from .base import RECORD_LIMIT, Fact, Row, Skipped, Source, WantedImages, fact_of
from .opening import cannot_open

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_UNREAD = "files that are no images"


class ImageFolder(Source):
    """The images of the folders in a folder, at any depth.

    Columns: image and label; `file`, the path in the folder; and `folder`, where that file lies.

    Args:
        folder: the one that holds a folder for each class.
        wanted: under which columns image and label are given.

    Raises:
        DataError: there are no folders of images in it, or they are those of splits.
    """

    def __init__(self, folder: Path, wanted: WantedImages) -> None:
        self._folder, self._wanted = folder, wanted
        self._left_out: Skipped = Counter()
        self._files = [(path, name) for name in self._classes() for path in self._images(folder / name)]
        labels = {name for _, name in self._files}
        if not labels:
            raise DataError(
                "data.no-classes",
                "The folder holds no folders of images: the label of an image is the name of the folder that it lies in.",
                where=str(folder),
                mend=f"Make a folder for each label and put its images there ({', '.join(SUFFIXES)}).",
            )
        if len(labels) > 1 and labels <= _SPLITS:
            raise DataError(
                "data.split-folders",
                f"The folders are called as splits ({', '.join(sorted(labels))}), not as labels.",
                where=str(folder),
                mend="Name them one by one: the training images as `data.source`, the others as `data.validation` and `data.test`.",
            )
        self._sizes = {fact.path: fact.size for fact in self.facts()}
        self.total_bytes, self.records = sum(self._sizes.values()), len(self._files)
        self._read = 0

    def _classes(self) -> list[str]:
        names = []
        for entry in _entries(self._folder):
            if self._passed_over(entry):
                continue
            if entry.is_dir():
                names.append(entry.name)
            else:
                image = entry.suffix.lower() in SUFFIXES
                self._left_out["images without a folder of a class" if image else _UNREAD] += 1
        return names

    def _images(self, folder: Path) -> Iterator[Path]:
        for entry in _entries(folder):
            if self._passed_over(entry):
                continue
            if entry.is_dir():
                yield from self._images(entry)
            elif entry.suffix.lower() in SUFFIXES and is_file(entry):
                yield entry
            else:
                self._left_out[_UNREAD] += 1

    def _passed_over(self, entry: Path) -> bool:
        """Whether it is hidden, or a link that leads to what nobody meant to give, or round in a circle."""
        why = None
        if entry.name.startswith("."):
            why = "hidden files and folders"
        elif entry.is_symlink() and entry.is_dir():
            why = "links to folders"
        elif entry.is_symlink() and not entry.resolve().is_relative_to(self._folder.resolve()):
            why = "links that lead out of the folder"
        if why:
            self._left_out[why] += 1
        return why is not None

    def facts(self) -> list[Fact]:
        return [fact_of(path) for path, _ in self._files]

    @property
    def position(self) -> int:
        return self._read

    def rows(self, skipped: Skipped) -> Iterator[Row]:
        skipped.update(+self._left_out)
        self._read = 0
        for path, label in self._files:
            content = image_bytes(path, skipped)
            self._read += self._sizes[str(path)]
            if content is not None:
                file = path.relative_to(self._folder)
                beside = {"file": file.as_posix(), "folder": file.parent.as_posix()}
                yield Row(beside | {self._wanted.image: content, self._wanted.label: label}, str(path))


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, in order.

    Raises:
        DataError: nobody may look.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            "data.unreadable",
            f"The folder cannot be read ({error.strerror}).",
            where=str(folder),
            mend="Check its permissions.",
        ) from None


def image_bytes(path: Path, skipped: Skipped) -> bytes | None:
    """The content of a file; None after counting in `skipped` that it is not there, or no file of its own, or too long.

    Args:
        path: of the file.
        skipped: reasons and how often.

    Raises:
        DataError: it may not be read.
    """
    if not is_file(path):
        skipped["image files that are not there"] += 1
        return None
    try:
        with path.open("rb") as file:
            content = file.read(RECORD_LIMIT + 1)
    except OSError as error:
        raise cannot_open(path, error) from None
    if len(content) > RECORD_LIMIT:
        skipped["image files that are too long"] += 1
        return None
    return content


def is_file(path: Path) -> bool:
    """Whether it can be read to an end, as no pipe or device can; False for what no file can be called."""
    return os.path.isfile(path)  # noqa: PTH113 - pathlib's raises for a name that is too long or holds NUL
