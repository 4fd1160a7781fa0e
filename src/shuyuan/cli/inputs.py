"""Where a verb's texts come from: arguments, stdin, or a column of a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError
from ..visible import visible

File = Annotated[
    Path | None,
    typer.Option(
        "--input", metavar="FILE", help="Read many texts: .csv, .tsv, .jsonl, .json, .parquet, or one a line."
    ),
]
Text = Annotated[str | None, typer.Argument(help="The text; - or left out: stdin.")]
Column = Annotated[
    str, typer.Option(help="The column of --input; a number counts them in a table without a header.")
]


def given(text: str | None, file: Path | None, column: str) -> list[str]:
    """The texts that a verb was given; one, unless a file is named.

    Args:
        text: the argument; None or - is stdin.
        file: read instead.
        column: of the file.

    Raises:
        DataError: both or nothing is given, or the file has no such column.
    """
    if file is not None and text is not None:
        raise two_inputs()
    if file is not None:
        return column_of(file, column)
    if text is None or text == "-":
        text = sys.stdin.read().removesuffix("\n") if not sys.stdin.isatty() or text else ""
    if not text.strip():
        raise DataError(
            "data.no-input",
            "There is no text.",
            mend="Give one as the argument, on stdin, or many with --input FILE --column NAME.",
        )
    return [text]


def two_inputs() -> DataError:
    """The refusal of an argument beside a file."""
    return DataError(
        "data.two-inputs", "A text is given, and a file too.", where="--input", mend="Give one of them."
    )


def column_of(file: Path, column: str) -> list[str]:
    """The texts in a column of a file, one for each of its rows; of plain text, its lines.

    Args:
        file: a table, or plain text, whose lines are its rows.
        column: of a table.

    Raises:
        DataError: with file and line, where there is none.
    """
    from ..data.sources import Skipped, Wanted, open_source
    from ..tasks.base import text_field

    source = open_source(str(file), Wanted(column, (column,), "line"))
    skipped: Skipped = Skipped()
    texts = [text_field(row.values, column, row.where) for row in source.rows(skipped)]
    if skipped:
        reason, count = next(iter(skipped.items()))
        raise DataError(
            "data.bad-rows",
            f"Answers would not stand beside their rows: {count:,} {reason}.",
            where=str(file),
            mend="Mend these rows, or take them out.",
        )
    return texts


def one_line(text: str) -> str:
    """A text on a line of its own: its line ends are written as \\n."""
    return visible(text).replace("\\", "\\\\").replace("\n", "\\n")


def write(answers: Iterable[str], many: bool) -> None:
    """Prints answers: many of them a line each, one as it is; on a terminal, what acts in it is made visible.

    Args:
        answers: texts.
        many: whether there may be several.
    """
    for text in answers:
        shown = one_line(text) if many else visible(text) if sys.stdout.isatty() else text
        sys.stdout.write(shown + "\n")
