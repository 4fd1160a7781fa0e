"""Plain text and HTML as rows: a file, a line, a paragraph or a block each."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import IO

from ...errors import DataError
from .base import RECORD_LIMIT, Granule, Row, Skipped, Wanted
from .opening import Meter, inner_suffix, open_text

_HTML = (".html", ".htm", ".xhtml")
_BLOCKS = 128  # about as many blocks as a small file is cut into, so that a share of 0.1 can be met closely


def block_chars(size: int) -> int:
    """Characters in a block of a single text file of `size` bytes: between 512 and 65,536."""
    return min(max(size // _BLOCKS, 512), 65_536)


def text_rows(
    path: Path, name: str, wanted: Wanted, meter: Meter, skipped: Skipped, block: int | None
) -> Iterator[Row]:
    """Rows of one file, with the columns `wanted.text` and `file` (its name).

    Args:
        path: the file.
        name: what the column `file` says, so that the lines of a file can be kept together as one owner.
        wanted: what one record is; None means the whole file.
        meter: counts the bytes read.
        skipped: a file that is too long to be one record is counted here.
        block: cut into blocks of about so many characters instead.

    Raises:
        DataError: not UTF-8 text, or a line or paragraph longer than `RECORD_LIMIT` characters.
    """
    with open_text(path, meter) as stream:
        lines: IO[str] | _Text = stream
        if inner_suffix(path) in _HTML:
            page = stream.read(RECORD_LIMIT + 1)
            if len(page) > RECORD_LIMIT:
                raise too_long(f"{path}:1")
            lines = _Text(html_to_text(page))
        for text, line in _pieces(path, lines, wanted.record, skipped, block):
            yield Row({wanted.text: text, "file": name}, f"{path}:{line}")


def _pieces(
    path: Path, stream: IO[str] | _Text, record: Granule | None, skipped: Skipped, block: int | None
) -> Iterator[tuple[str, int]]:
    if block:
        yield from _blocks(stream, block)
    elif record == "line":
        yield from _lines(path, stream)
    elif record == "paragraph":
        yield from _paragraphs(path, stream)
    else:
        text = stream.read(RECORD_LIMIT + 1)
        if len(text) <= RECORD_LIMIT:
            yield text, 1
        else:
            skipped["files too long to be one record"] += 1


def _lines(path: Path, stream: IO[str] | _Text) -> Iterator[tuple[str, int]]:
    number = 0
    while line := stream.readline(RECORD_LIMIT + 1):
        number += 1
        line = line.removesuffix("\n")
        if len(line) > RECORD_LIMIT:
            raise too_long(f"{path}:{number}")
        yield line, number


def _paragraphs(path: Path, stream: IO[str] | _Text) -> Iterator[tuple[str, int]]:
    lines: list[str] = []
    length, begin = 0, 1
    for line, number in _lines(path, stream):
        if line.strip():
            if not lines:
                begin = number
            lines.append(line)
            length += len(line) + 1
            if length > RECORD_LIMIT:
                raise too_long(f"{path}:{begin}")
        elif lines:
            yield "\n".join(lines), begin
            lines, length = [], 0
    if lines:
        yield "\n".join(lines), begin


def _blocks(stream: IO[str] | _Text, chars: int) -> Iterator[tuple[str, int]]:
    line = 1
    while text := stream.read(chars):
        text += stream.readline(chars)  # to the end of the line, or as long again at most
        yield text, line
        line += text.count("\n")


def too_long(where: str) -> DataError:
    """The error for a record that would not fit into memory."""
    return DataError(
        "data.record-too-long",
        f"The record is longer than {RECORD_LIMIT // 10**6} million characters.",
        where=where,
        mend='Cut it into records, or choose a smaller `data.record`, such as "paragraph".',
    )


class _Text:
    """A text in memory that is read like a file."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self, count: int) -> str:
        text = self._text[self._at : self._at + count]
        self._at += len(text)
        return text

    def readline(self, limit: int) -> str:
        end = self._text.find("\n", self._at, self._at + limit) + 1
        return self.read(end - self._at if end else limit)


# ---- HTML ----------------------------------------------------------------------------------------------------------

_SILENT = {"script", "style", "template", "noscript", "head"}
_BREAKING = {
    "address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "fieldset", "figcaption", "figure",
    "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre",
    "section", "table", "td", "th", "title", "tr", "ul",
}  # fmt: skip


def html_to_text(html: str) -> str:
    """The text that a reader of the page sees: no scripts or styles, one line for each block, entities resolved."""
    parser = _Page()
    parser.feed(html)
    parser.close()
    lines = (line if kept else " ".join(line.split()) for line, kept in parser.lines())
    text = "\n".join(line for line in lines if line.strip())
    return text + "\n" if text else ""


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[tuple[str, bool]] = []  # text, and whether its spaces count (inside <pre>)
        self._silent: list[str] = []
        self._pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent.append(tag)
        elif tag == "body":
            self._silent.clear()  # a <head> that was never closed
        if tag in _BREAKING:
            self._parts.append(("\n", False))
        self._pre += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]
        if tag in _BREAKING:
            self._parts.append(("\n", False))
        if tag == "pre" and self._pre:
            self._pre -= 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BREAKING:
            self._parts.append(("\n", False))

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._parts.append((data if self._pre else data.replace("\n", " "), bool(self._pre)))

    def lines(self) -> Iterator[tuple[str, bool]]:
        """Each line of the page, and whether it comes from <pre>."""
        line, kept = "", False
        for text, pre in self._parts:
            first, *rest = text.split("\n")
            line, kept = line + first, kept or pre
            for following in rest:
                yield line, kept
                line, kept = following, pre
        yield line, kept
