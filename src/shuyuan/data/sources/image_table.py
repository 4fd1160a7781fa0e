"""Tables with a column of images: the encoded images themselves (.parquet), or paths to them from where the table lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError
from . import tables
from .base import Fact, Row, Skipped, Source, Wanted, WantedImages, fact_of
from .image_folder import image_bytes, is_file
from .opening import Meter, inner_suffix

_ROWS = 64  # read at once: a row may hold megabytes


class ImageTable(Source):
    """Rows of a table whose images are bytes, or what Hugging Face writes ({bytes, path}), or paths.

    A path leads from the table's folder to a file in it, and never out of it.

    Args:
        path: the table: .jsonl, .json, .csv, .tsv or .parquet.
        wanted: the columns to read.
    """

    def __init__(self, path: Path, wanted: WantedImages) -> None:
        self._path, self._wanted = path, wanted
        self._folder = path.parent.resolve()
        self._meter = Meter()
        self.total_bytes = fact_of(path).size

    def facts(self) -> list[Fact]:
        """Those of the table, and of every file that it names."""
        facts, seen = [fact_of(self._path)], set()
        for row in self._rows(Meter(), Skipped()):
            value = embedded(row.values.get(self._wanted.image))
            if value is None:
                continue
            if not isinstance(value, str):
                break  # the table holds the images themselves
            path = self._inside(value, row.where)
            if path not in seen and is_file(path):
                facts.append(fact_of(path))
            seen.add(path)
        return facts

    @property
    def position(self) -> int:
        return self._meter.position

    def rows(self, skipped: Skipped) -> Iterator[Row]:
        self._meter = Meter()
        for row in self._rows(self._meter, skipped):
            if self._wanted.image not in row.values:
                yield row  # whoever reads it names the columns that there are
                continue
            value = embedded(row.values[self._wanted.image])
            if isinstance(value, str):
                value = image_bytes(self._inside(value, row.where), skipped)
                if value is None:
                    continue
            yield Row({**row.values, self._wanted.image: value}, row.where)

    def _rows(self, meter: Meter, skipped: Skipped) -> Iterator[Row]:
        reader = tables.READERS[inner_suffix(self._path)]
        return reader(self._path, Wanted("", self._wanted.columns, rows_at_once=_ROWS), meter, skipped)

    def _inside(self, name: str, where: str) -> Path:
        """The file that a path names.

        Raises:
            DataError: it lies outside of the table's folder.
        """
        path = self._folder if "\0" in name else (self._folder / name).resolve()
        if not path.is_relative_to(self._folder):
            raise DataError(
                "data.outside",
                "The path of the image leads out of the folder that the table lies in.",
                where=where,
                mend="Put the images beside the table, or the table into a folder that holds them all.",
            )
        return path


def embedded(value: Any) -> Any:
    """The encoded image in a value of a table, or its path: Hugging Face writes both in one struct."""
    if isinstance(value, Mapping) and value.keys() >= {"bytes", "path"}:
        return value["path"] if value["bytes"] is None else value["bytes"]
    return value
