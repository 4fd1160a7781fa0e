"""Markdown for the terminal whose lines also break inside Chinese, which has no spaces to break at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, MarkdownElement, Paragraph, TableElement
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_CHINESE = "\u3400-\u9fff"
_OPENING = "（《“「"
_CLOSING = "，。、；：？！）》”」…"
# What stays together on a line: one Chinese character or one word, with its brackets and the stop behind it.
_PIECE = re.compile(rf"[{_OPENING}]*(?:[{_CHINESE}]|[^\s{_CHINESE}{_OPENING}{_CLOSING}]+)?[{_CLOSING}]*\s*")


class _Paragraph(Paragraph):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield laid_out(self.text, options.max_width)


@dataclass(frozen=True)
class _Cell:
    """A cell of a table; rich would cut a line of Chinese that is wider than its column."""

    text: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield laid_out(self.text, options.max_width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        pieces = _PIECE.findall(self.text.plain)
        return Measurement(max(cell_len(piece.rstrip()) for piece in pieces), self.text.cell_len)


class _Table(TableElement):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=box.SIMPLE, pad_edge=False, style="markdown.table.border", collapse_padding=True)
        if self.header is not None and self.header.row is not None:
            for cell in self.header.row.cells:
                heading = cell.content.copy()
                heading.stylize("markdown.table.header")
                table.add_column(_Cell(heading))
        for row in self.body.rows if self.body is not None else ():
            table.add_row(*(_Cell(cell.content) for cell in row.cells))
        yield table


class WrappedMarkdown(Markdown):
    """Rich's Markdown with paragraphs and tables that break inside Chinese too."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "paragraph_open": _Paragraph,
        "table_open": _Table,
    }


def laid_out(text: Text, width: int) -> Text:
    """A text with its styles and with line breaks, no line wider than `width` cells, but for a word that is.

    Args:
        text: in the styles of rich.
        width: in cells; a Chinese character takes two.
    """
    lines = [
        part for line in text.split("\n", allow_blank=True) for part in line.divide(breaks(line.plain, width))
    ]
    for line in lines:
        line.rstrip()
    return Text("\n", justify="left").join(lines)


def folded(text: str, width: int) -> str:
    """`text` with line breaks, no line wider than `width` cells.

    Args:
        text: any.
        width: in cells; a Chinese character takes two.
    """
    offsets = [0, *breaks(text, width), len(text)]
    return "\n".join(text[start:end].rstrip() for start, end in pairwise(offsets))


def breaks(text: str, width: int) -> list[int]:
    """Where to break `text` so that no line is wider than `width` cells: offsets into it.

    Args:
        text: any.
        width: in cells; a Chinese character takes two.
    """
    offsets, used, at = [], 0, 0
    for piece in filter(None, _PIECE.findall(text)):  # the pattern also matches nothing, at the end
        if used and used + cell_len(piece.rstrip()) > width:
            offsets.append(at)
            used = 0
        used += cell_len(piece)
        at += len(piece)
    return offsets
