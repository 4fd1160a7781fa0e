"""Files, folders and globs: which files there are, in a fixed order, and what is left out of a folder and why."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import DataError
from . import tables, texts
from .base import Fact, Row, Skipped, Source, Wanted, fact_of
from .opening import Meter, check_text, inner_suffix

_LEFT_OUT = {"data.not-utf8": "files that are not UTF-8", "data.binary": "binary files"}


class Files(Source):
    """Rows of files, folders and globs.

    Args:
        paths: as the recipe names them.
        wanted: columns, and what one record of plain text is. Left open, a file is one record, and the blocks of a
            single text file are.

    Raises:
        DataError: a path or glob matches nothing, or every file is empty.
    """

    def __init__(self, paths: list[Path], wanted: Wanted) -> None:
        self._wanted = wanted
        self._hidden = 0
        self._files: list[tuple[Path, str, bool]] = []  # path, name in the column `file`, may it be skipped
        for path in paths:
            self._files += self._found(path)
        self._sizes = {fact.path: fact.size for fact in self.facts()}
        self.total_bytes = sum(self._sizes.values())
        if not self.total_bytes:
            raise DataError(
                "data.empty",
                "The source is empty." if self._files else "The folder holds no files.",
                where=", ".join(map(str, paths)),
                mend="Name a file or folder that holds records.",
            )
        alone = len(self._files) == 1 and len(paths) == 1 and paths[0].is_file()
        self.contiguous = (
            alone and wanted.record is None and inner_suffix(self._files[0][0]) not in tables.READERS
        )
        self.plain = any(inner_suffix(path) not in tables.READERS for path, _, _ in self._files)
        self._meter = Meter()
        self._verdicts: dict[Path, str | None] = {}

    def _found(self, path: Path) -> list[tuple[Path, str, bool]]:
        if path.is_file():
            return [(path, path.name, False)]
        if path.is_dir():
            return [(file, file.relative_to(path).as_posix(), True) for file in self._walk(path)]
        files = matches(path)
        start = Path(os.path.commonpath([file.parent for file in files]))
        return [(file, file.relative_to(start).as_posix(), False) for file in files]

    def _walk(self, folder: Path) -> list[Path]:
        files = []
        for here, folders, names in os.walk(folder):
            self._hidden += sum(name.startswith(".") for name in folders + names)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            files += [Path(here, name) for name in names if not name.startswith(".")]
        return sorted(file for file in files if file.is_file())

    def facts(self) -> list[Fact]:
        return [fact_of(path) for path, _, _ in self._files]

    @property
    def position(self) -> int:
        return self._meter.position

    def rows(self, skipped: Skipped) -> Iterator[Row]:
        self._meter = Meter()
        if self._hidden:
            skipped["hidden files and folders"] += self._hidden
        for path, name, may_skip in self._files:
            size = self._sizes[str(path)]
            if not size:
                skipped["empty files"] += 1
                continue
            reason = self._verdict(path) if may_skip else None
            if reason:
                skipped[reason] += 1
                continue
            reader = tables.READERS.get(inner_suffix(path))
            if reader:
                yield from reader(path, self._wanted, self._meter, skipped)
            else:
                block = texts.block_chars(size) if self.contiguous else None
                yield from texts.text_rows(path, name, self._wanted, self._meter, skipped, block)

    def _verdict(self, path: Path) -> str | None:
        """Why a file of a folder is left out; None if it is read. Each file is looked through once."""
        if path not in self._verdicts:
            self._verdicts[path] = None
            if inner_suffix(path) != ".parquet":
                try:
                    check_text(path)
                except DataError as error:
                    if error.code not in _LEFT_OUT:
                        raise
                    self._verdicts[path] = _LEFT_OUT[error.code]
        return self._verdicts[path]


def matches(path: Path) -> list[Path]:
    """The files that a path or glob names.

    Args:
        path: with `*`, `?`, `[…]` and `**`, or without.

    Raises:
        DataError: there are none.
    """
    magic = glob.has_magic(str(path))
    names = [str(path)] if path.is_file() else sorted(glob.glob(str(path), recursive=True)) if magic else []  # noqa: PTH207
    files = [Path(name) for name in names if Path(name).is_file()]
    if not files:
        if re.search(r"\b[a-z]{2,8}:/", str(path)):
            raise DataError(
                "data.missing",
                "An address is no source: nothing is downloaded but what `hf:org/name` names.",
                where=str(path),
                mend="Download it yourself, and name the file.",
            )
        raise DataError(
            "data.missing",
            "No file matches the glob." if magic else "There is no such file or folder.",
            where=str(path),
            mend="Check the path; in a recipe, a relative one starts at the recipe's folder.",
        )
    return files
