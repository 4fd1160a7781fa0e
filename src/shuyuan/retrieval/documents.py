"""Documents for an index: whatever a recipe's source can be, files in the SQuAD format, and questions with their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import Row, Skipped, Source, Wanted, is_table, open_source
from ..errors import DataError
from ..progress import Progress


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read.

    Attributes:
        text: holds the document; of pairs, the question.
        answer: holds the answer that belongs to the question; None for documents.
    """

    text: str = "text"
    answer: str | None = None


@dataclass(frozen=True)
class Document:
    """One text that is searched, and where it stands.

    Attributes:
        name: a file, or file:line of a table's row; no two documents have the same.
        text: as it was read, with every line end a line feed.
        line: of the file, where the text begins.
        is_file: whether its lines are those of the file; a row of a table has one line for all of it.
        answer: what is answered, of pairs.
    """

    name: str
    text: str
    line: int
    is_file: bool
    answer: str | None = None


def read_documents(
    sources: Sequence[str], columns: Columns, progress: Progress
) -> tuple[list[Document], Skipped]:
    """Every document of some sources, in an order that does not depend on the order of the sources.

    Args:
        sources: files, folders and globs, or one `hf:org/name` or built-in source.
        columns: which columns of tables hold the text.
        progress: hears how far the reading is.

    Returns:
        The documents, and how many records were left out for which reason.

    Raises:
        DataError: a source is not there or cannot be read, or a column is missing or holds no text.
    """
    wanted = (columns.text,) if columns.answer is None else (columns.text, columns.answer)
    spec = sources[0] if len(sources) == 1 else list(sources)
    source = open_source(spec, Wanted(columns.text, wanted, record="file"))
    skipped: Skipped = Counter()
    found: dict[str, list[Document]] = {}
    with progress.stage("read", source.total_bytes, "bytes") as stage:
        read = 0
        for row in _once(source, skipped):
            file = _file_of(row)
            documents = found.setdefault(file, [])
            documents += _documents(file, row, columns, skipped)
            stage.advance(source.position - read)
            read = source.position
    return [document for file in sorted(found) for document in _named(found[file])], skipped


def _once(source: Source, skipped: Skipped) -> Iterator[Row]:
    """The rows of every file, also where a file was named twice."""
    seen: set[str] = set()
    before = None
    for row in source.rows(skipped):
        file = _file_of(row)
        if file != before and file in seen:
            skipped["records of files named twice"] += 1
            continue
        seen.add(file)
        before = file
        yield row


def _file_of(row: Row) -> str:
    return row.where.rpartition(":")[0] or row.where


def _documents(file: str, row: Row, columns: Columns, skipped: Skipped) -> Iterator[Document]:
    values, where = row.values, row.where
    line = int(number) if (number := where.rpartition(":")[2]).isdecimal() else 1
    is_file = "file" in values and not is_table(Path(file))
    if columns.text not in values and isinstance(values.get("paragraphs"), list):
        for paragraph in values["paragraphs"]:
            yield Document(where, _context(paragraph, where), line, False)
        return
    text = _text(values, columns.text, where)
    answer = _text(values, columns.answer, where) if columns.answer is not None else None
    if not text.strip() or (answer is not None and not answer.strip()):
        skipped["records without text"] += 1
    else:
        yield Document(file if is_file else where, text, line, is_file, answer)


def _context(paragraph: Any, where: str) -> str:
    context = paragraph.get("context") if isinstance(paragraph, dict) else None
    if not isinstance(context, str):
        raise DataError(
            "data.bad-squad",
            "A paragraph of this article has no text as `context`.",
            where=where,
            mend='Write it as {"paragraphs": [{"context": "…", "qas": […]}]}, or name the column of the text with --text.',
        )
    return context


def _text(values: Mapping[str, Any], column: str, where: str) -> str:
    if column not in values:
        raise DataError(
            "data.no-column",
            f"There is no column `{column}`.",
            where=where,
            mend="Name one of these with --text, or --question and --answer: "
            f"{', '.join(map(str, values)) or 'none found'}.",
        )
    value = values[column]
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):  # a label that is a number, or true and false
        return str(value)
    raise DataError(
        "data.not-text",
        f"The column `{column}` holds {type(value).__name__}, not text.",
        where=where,
        mend="Name another column, or write the value as text.",
    )


def _named(documents: list[Document]) -> Iterator[Document]:
    """The documents of one file; rows that share a line are told apart by their number."""
    times = Counter(document.name for document in documents)
    number: Counter[str] = Counter()
    for document in documents:
        number[document.name] += 1
        name = document.name
        if times[name] > 1:
            name = f"{name}#{number[name]}"
        yield Document(name, document.text, document.line, document.is_file, document.answer)
