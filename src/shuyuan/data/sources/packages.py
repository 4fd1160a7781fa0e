"""The built-in source `packages`: how the source files of the installed Python packages begin.

Real text of many owners that needs no download: each file's first characters, where it says what it is for. The owner is
the folder that the file lies in.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ...errors import DataError
from .base import Fact, Row, Skipped, Source, Wanted

BEGINNING = 2000  # characters of a file
_LEFT_OUT = {"__pycache__", "test", "tests", "testing", "_vendor"}


class Packages(Source):
    """The beginnings of the installed packages' source files.

    Columns: `text`, and `folder`, which is the owner unless the recipe names another column.

    Args:
        wanted: under which column the text is given.

    Raises:
        DataError: no package is installed with its source.
    """

    owner = "folder"

    def __init__(self, wanted: Wanted) -> None:
        self._text = wanted.text
        self._root = Path(sysconfig.get_path("purelib"))
        self._files = sorted(_source_files(self._root))
        if not self._files:
            raise DataError(
                "data.no-packages",
                "No package is installed with its source text.",
                where=str(self._root),
                mend="Name a source of your own.",
            )
        self.total_bytes = sum(min(file.stat().st_size, BEGINNING) for file in self._files)
        self._read = 0

    def facts(self) -> list[Fact]:
        return [Fact(f"packages: {len(self._files)} files", self.total_bytes or 0, 0)]

    @property
    def position(self) -> int:
        return self._read

    def rows(self, skipped: Skipped) -> Iterator[Row]:
        self._read = 0
        for file in self._files:
            with file.open("rb") as content:
                begun = content.read(4 * BEGINNING)
            self._read += min(len(begun), BEGINNING)
            text = begun.decode("utf-8", "replace")[:BEGINNING]
            if "\ufffd" in text:
                skipped["files that are not UTF-8"] += 1
                continue
            folder = file.parent.relative_to(self._root).as_posix()
            yield Row({self._text: text, "folder": folder}, f"{file}:1")


def _source_files(root: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        yield from (Path(here, name) for name in names if name.endswith(".py"))
