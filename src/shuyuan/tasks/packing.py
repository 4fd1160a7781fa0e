"""Records with prompts as one text, on their way through the passes of preparation.

What is read of a record of a plain task is its text. Of a record with prompts it is a packed text, which begins with a
character that cleaning takes out of all others, so that nothing of a record can pass for one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from .base import Example, Piece

MARK = "\x1e"  # ASCII's record separator


def packed(examples: Sequence[Example]) -> str:
    """The rows of a record as one text; their texts must be clean.

    Args:
        examples: one a row, in order.
    """
    rows = [
        [(each.text, each.learn, each.kind, each.cut, each.keep, each.turn) for each in example.pieces]
        for example in examples
    ]
    return MARK + json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


def unpacked(content: str) -> list[Example]:
    """What `packed` was given; of a plain text, that text as one piece.

    Args:
        content: packed, or the text of a plain record.
    """
    if not content.startswith(MARK):
        return [Example((Piece(content),))]
    rows = json.loads(content.removeprefix(MARK))
    return [Example(tuple(_piece(*piece) for piece in row)) for row in rows]


def _piece(text: str, learn: bool, kind: str, cut: str, keep: list[int] | None, turn: int | None) -> Piece:
    return Piece(text, learn, kind, cut, (keep[0], keep[1]) if keep else None, turn)  # type: ignore[arg-type]


def in_texts(change: Callable[[str], str], content: str) -> str:
    """The content with every text of the record changed, and no word of the task.

    Args:
        change: a text to what it becomes.
        content: packed, or the text of a plain record.
    """
    if not content.startswith(MARK):
        return change(content)
    once = cache(change)  # what stands in two rows of a record is changed, and counted, once
    return packed([changed(once, example) for example in unpacked(content)])


def changed(change: Callable[[str], str], example: Example) -> Example:
    """The example with the texts of its record changed.

    Args:
        change: a text to what it becomes.
        example: the example, which stays as it is.
    """
    pieces = (
        replace(piece, text=change(piece.text)) if piece.kind == "text" else piece for piece in example.pieces
    )
    return replace(example, pieces=tuple(pieces))


def texts_of(content: str) -> list[str]:
    """The texts of the record, each once: not the task's words.

    Args:
        content: packed, or the text of a plain record.
    """
    return [piece.text for piece in unpacked(content)[0].pieces if piece.kind == "text"]


def all_words(content: str) -> list[str]:
    """Everything that a tokenizer will meet: the record's texts, and the task's words around them.

    Args:
        content: packed, or the text of a plain record.
    """
    return [piece.text for example in unpacked(content) for piece in example.pieces if piece.text]
