"""Files of rows with columns: JSON lines, JSON, CSV, TSV, Parquet. An error names file and line."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ...errors import DataError, first_line, missing_extra
from ...strict import TwiceNamedError, table
from .base import RECORD_LIMIT, Row, Skipped, Wanted
from .opening import Meter, check_start, open_bytes, open_text
from .texts import too_long

_JSON_LIMIT = 256_000_000  # a .json file is parsed in memory, which takes several times its size
_DECODER = json.JSONDecoder(object_pairs_hook=table)
_SHOWN = 40  # characters of a key in an error

# The csv module refuses fields over 128 KiB by default, process-wide; a record may be longer.
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


def json_lines(path: Path, wanted: Wanted, meter: Meter, skipped: Skipped) -> Iterator[Row]:
    """One JSON object a line; blank lines are passed over.

    Args:
        path: the file.
        wanted: is not looked at: a line is read whole.
        meter: counts the bytes that are read.
        skipped: stays as it is; what cannot be read is an error.

    Raises:
        DataError: with file and line: it is no JSON, no object, or over `RECORD_LIMIT` bytes.
    """
    check_start(path)
    with open_bytes(path, meter) as stream:
        number = 0
        while line := stream.readline(RECORD_LIMIT + 1):
            number += 1
            where = f"{path}:{number}"
            if len(line) > RECORD_LIMIT:
                raise too_long(where)
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if text.isspace():
                continue
            try:
                value = _DECODER.decode(text)
            except (ValueError, RecursionError) as error:
                raise _bad_json(where, error) from None
            yield Row(_object(value, where), where)


def json_list(path: Path, wanted: Wanted, meter: Meter, skipped: Skipped) -> Iterator[Row]:
    """A list of objects, or an object in which exactly one value is such a list.

    Args:
        path: the file.
        wanted, meter, skipped: as of `json_lines`.

    Raises:
        DataError: it is no such list, or over `_JSON_LIMIT` characters.
    """
    with open_text(path, meter) as stream:
        text = stream.read(_JSON_LIMIT + 1)
    if len(text) > _JSON_LIMIT:
        raise DataError(
            "data.json-too-large",
            f"A .json file is read whole, and this one is over {_JSON_LIMIT // 10**6} million characters.",
            where=str(path),
            mend="Save it as .jsonl, one object a line; that is read line by line.",
        )
    try:
        at = _start_of_list(text, path)
        line, counted = 1, 0
        for value, begin in _items(text, at):
            line += text.count("\n", counted, begin)
            counted = begin
            where = f"{path}:{line}"
            yield Row(_object(value, where), where)
    except (ValueError, RecursionError) as error:
        line_of = "" if isinstance(error, TwiceNamedError) else f":{getattr(error, 'lineno', 1)}"
        raise _bad_json(f"{path}{line_of}", error) from None


def _start_of_list(text: str, path: Path) -> int:
    """Where the list of records begins in the text of a JSON file; the whole file is parsed to see that it is sound."""
    at = _after_space(text, 0)
    value, end = _DECODER.raw_decode(text, at)
    if _after_space(text, end) != len(text):
        if isinstance(value, dict):
            raise DataError(
                "data.bad-json",
                "The file holds one JSON value after another, where a .json file holds a single one.",
                where=str(path),
                mend="Call it .jsonl if it has an object on each line, or write one list of all objects.",
            )
        raise json.JSONDecodeError("Extra data", text, end)
    if isinstance(value, list):
        return at
    keys = value.items() if isinstance(value, dict) else ()
    lists = [key for key, inner in keys if isinstance(inner, list)]
    if len(lists) != 1:
        raise DataError(
            "data.bad-json",
            f"The file holds {len(lists) or 'no'} lists where one list of records is wanted.",
            where=str(path),
            mend="Write a list of objects, an object of one list, or one object a line in a .jsonl file.",
        )
    at = _after_space(text, at + 1)
    while True:  # over the keys of the object to the one with the list
        key, at = _DECODER.raw_decode(text, at)
        at = _after_space(text, _after_space(text, at) + 1)  # over the colon
        if key == lists[0]:
            return at
        at = _DECODER.raw_decode(text, at)[1]
        at = _after_space(text, _after_space(text, at) + 1)  # over the comma


def _items(text: str, at: int) -> Iterator[tuple[Any, int]]:
    at = _after_space(text, at + 1)
    while text[at] != "]":
        value, end = _DECODER.raw_decode(text, at)
        yield value, at
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            "data.not-an-object",
            f"A record must be a JSON object, and this is a {type(value).__name__}.",
            where=where,
            mend='Write it as {"text": "…"}.',
        )
    return value


def _bad_json(where: str, error: Exception) -> DataError:
    if isinstance(error, json.JSONDecodeError):
        what = f"{error.msg.removesuffix(' at')} at column {error.colno}"
    elif isinstance(error, TwiceNamedError):
        return DataError(
            "data.key-twice",
            f"The key `{error.name[:_SHOWN]}` stands twice in one object; of two values one would be lost.",
            where=where,
            mend="Keep one of them.",
        )
    else:
        what = "it is nested too deep" if isinstance(error, RecursionError) else "a number is too long"
    return DataError(
        "data.bad-json", f"This is not JSON: {what}.", where=where, mend="Mend that line, or take it out."
    )


def csv_rows(path: Path, wanted: Wanted, meter: Meter, skipped: Skipped) -> Iterator[Row]:
    """Comma-separated values with a header; quoted fields may hold commas, quotes and line ends (RFC 4180). A first line without a
    comma says by its semicolons or tabs that these stand in the place of commas, as where a comma is the decimal point."""
    return _separated(path, wanted, meter, skipped, delimiter=_delimiter(path), strict=True)


def _delimiter(path: Path) -> str:
    with open_text(path) as stream:
        first = stream.readline(RECORD_LIMIT)
    return next((mark for mark in (",", ";", "\t") if mark in first), ",")


def tsv_rows(path: Path, wanted: Wanted, meter: Meter, skipped: Skipped) -> Iterator[Row]:
    """Tab-separated values with a header; quotes mean nothing, as the format's registration has it."""
    return _separated(path, wanted, meter, skipped, delimiter="\t", quoting=csv.QUOTE_NONE)


def _separated(path: Path, wanted: Wanted, meter: Meter, skipped: Skipped, **dialect: Any) -> Iterator[Row]:
    with open_text(path, meter, newline="") as stream:
        reader = csv.reader(stream, **dialect)
        try:
            first = next(reader, [])
            header = _header(first, wanted)
            if twice := [name for name in wanted.columns if header.count(name) > 1]:
                raise DataError(
                    "data.column-twice",
                    f"The header names the column `{twice[0]}` {header.count(twice[0])} times, and it is not known which is meant.",
                    where=f"{path}:1",
                    mend="Give each column a name of its own in the first line.",
                )
            for values in reader if header is first else chain([first], reader):
                if len(values) == len(header):
                    yield Row(dict(zip(header, values, strict=True)), f"{path}:{reader.line_num}")
                elif values:
                    skipped["rows with too few or too many fields"] += 1
        except csv.Error as error:
            raise DataError(
                "data.bad-csv",
                f"The quoting is broken near here ({error}).",
                where=f"{path}:{reader.line_num}",
                mend="Put fields that hold commas, quotes or line ends in double quotes, and double the quotes in them.",
            ) from None


def _header(first: list[str], wanted: Wanted) -> list[str]:
    """The first row, or, where the recipe names columns by numbers that are no names there, these numbers: 1, 2, …"""
    numbered = all(column.isdecimal() for column in wanted.columns)
    if numbered and not set(wanted.columns) <= set(first):
        return [str(number) for number in range(1, len(first) + 1)]
    return first


def parquet_rows(path: Path, wanted: Wanted, meter: Meter, skipped: Skipped) -> Iterator[Row]:
    """Rows of a Parquet file; only the wanted columns are read, a batch at a time.

    Args:
        path: the file.
        wanted: the columns, and how many rows are read at once.
        meter: counts the bytes that are read.
        skipped: stays as it is.

    Raises:
        DataError: it is no whole Parquet file.
        MachineError: the extra `parquet` is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("Reading .parquet files", "parquet") from None
    with open_bytes(path, meter) as opened:
        # The format is read from its end, where a compressed stream cannot begin.
        stream = opened if opened.seekable() else io.BytesIO(opened.read())
        try:
            file = pyarrow.parquet.ParquetFile(stream)
            columns = [name for name in wanted.columns if name in file.schema_arrow.names]
            if len(columns) < len(wanted.columns):
                columns = file.schema_arrow.names  # a column is missing: let the error name those there are
            number = 0
            for batch in file.iter_batches(wanted.rows_at_once, columns=columns):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values, f"{path}:row {number}")
        except pyarrow.ArrowException as error:
            raise DataError(
                "data.damaged",
                f"This is not a whole Parquet file ({first_line(error)}).",
                where=str(path),
                mend="Restore it from a copy, or write it again.",
            ) from None


READERS = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_list,
    ".csv": csv_rows,
    ".tsv": tsv_rows,
    ".parquet": parquet_rows,
}
