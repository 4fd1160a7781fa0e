"""Cuts a document into passages: whole paragraphs where they fit, else whole sentences; each with its place in the document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ..tasks import languages
from .words import CHINESE

COLUMNS = 1000  # of a passage; a Chinese character is two columns wide, and says about as much as two letters
_WRAPPED = 60  # columns; a line at least so long that does not end a sentence was broken by a width, not by its writer

_BLANK_LINE = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")
_STOPS = "\n.!?。！？；…\"'”’」』）)]"
_WIDE = re.compile(f"[{CHINESE}\u3000-\u303f\uff01-\uff60]")
_SPACE = re.compile(r"\s")

Place = tuple[int, int]  # start and end, in characters


def passages(text: str, columns: int = COLUMNS) -> list[Place]:
    """Where the passages of a text are: in order, without overlap, and only white space is outside of them.

    Args:
        text: the document.
        columns: how wide a passage may be; a Chinese character is two columns wide.
    """
    pieces: list[Place] = []
    for paragraph in _trimmed(text, _between(text, _BLANK_LINE)):
        if width(text, *paragraph) <= columns:
            pieces.append(paragraph)
        else:
            pieces += _parts(text, paragraph, columns)
    return list(_packed(text, pieces, columns))


def sentences(text: str) -> list[Place]:
    """Where the sentences of a text are, without the white space around them.

    Returns:
        (start, end) of each, in characters.
    """
    return list(_trimmed(text, _sentences(text, 0, len(text))))


def width(text: str, start: int, end: int) -> int:
    """Columns that a stretch of text takes on a terminal.

    Args:
        text: any.
        start, end: in characters.

    Returns:
        Two for each wide character, such as a Chinese one, and one for each other.
    """
    return end - start + sum(1 for _ in _WIDE.finditer(text, start, end))


def _between(text: str, border: re.Pattern[str]) -> Iterator[Place]:
    start = 0
    for found in border.finditer(text):
        yield start, found.start()
        start = found.end()
    yield start, len(text)


def _trimmed(text: str, places: Iterable[Place]) -> Iterator[Place]:
    for start, end in places:
        inside = text[start:end]
        bare = inside.strip()
        if bare:
            begin = start + len(inside) - len(inside.lstrip())
            yield begin, begin + len(bare)


def _sentences(text: str, start: int, end: int) -> Iterator[Place]:
    at = start
    for sentence in languages.sentences(text[start:end]):
        at += len(sentence)
        if at == end or not _is_wrapped(text, at):
            yield start, at
            start = at


def _is_wrapped(text: str, end: int) -> bool:
    """Whether what ends there was cut by a long line, and not by a stop."""
    if text[end - 1] != "\n" or text[end - 2 : end - 1] in _STOPS:
        return False
    return width(text, text.rfind("\n", 0, end - 1) + 1, end - 1) >= _WRAPPED


def _parts(text: str, paragraph: Place, columns: int) -> Iterator[Place]:
    """A paragraph too wide for one passage, in parts of whole sentences that are about equally wide."""
    whole = width(text, *paragraph)
    share = whole / -(-whole // columns)
    small = [
        piece
        for sentence in _trimmed(text, _sentences(text, *paragraph))
        for piece in _trimmed(text, _cut(text, sentence, columns))
    ]
    return _packed(text, small, columns, enough=share)


def _cut(text: str, sentence: Place, columns: int) -> Iterator[Place]:
    """A sentence in pieces that are not too wide, cut at white space where there is some."""
    start, end = sentence
    while end - start > columns or width(text, start, end) > columns:
        stop = start + columns
        while width(text, start, stop) > columns:
            stop -= max(1, (width(text, start, stop) - columns) // 2)
        spaces = [found.end() for found in _SPACE.finditer(text, start + (stop - start) // 2, stop)]
        stop = spaces[-1] if spaces else stop
        yield start, stop
        start = stop
    yield start, end


def _packed(
    text: str, pieces: Iterable[Place], columns: int, enough: float = float("inf")
) -> Iterator[Place]:
    """Neighbours brought together up to `columns`, or until they are `enough`."""
    start, end = -1, -1
    for piece in pieces:
        if start >= 0 and (width(text, start, end) >= enough or width(text, start, piece[1]) > columns):
            yield start, end
            start = -1
        start = piece[0] if start < 0 else start
        end = piece[1]
    if start >= 0:
        yield start, end
