"""From the pieces of a prompt and its answer to one row of tokens that fits the model, and what each token of it is for.

Training, evaluation and prediction lay out their rows here, so that a model is asked as it was taught.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..tasks import Example, Piece
from .tokenizer import Tokenizer

# Bits of what a token of a row is: learned; the first of a row; of the record's own text; the first of a piece.
LEARNED, FIRST, OWN, BEGINS = 1, 2, 4, 8


class Laid(NamedTuple):
    """One row: token ids, the role of each, and whether something of it was left out so that it fits."""

    ids: list[int]
    roles: list[int]
    shortened: bool = False

    @property
    def learned(self) -> int:
        """Tokens that are learned."""
        return sum(role & LEARNED for role in self.roles)


Part = tuple[Piece, list[int]]  # a piece and its tokens


def laid_out(examples: Sequence[Example], tokenizer: Tokenizer, most: int) -> list[Laid | None]:
    """Rows of at most so many tokens; None where the answer, and what cannot be shortened, alone is longer.

    Args:
        examples: the rows' pieces.
        tokenizer: of the run.
        most: tokens of a row, its end token included. A row that is learned may have one more than the context, since nothing
            follows its last token.
    """
    pieces = [piece for example in examples for piece in example.pieces]
    parts = iter(list(zip(pieces, _encoded(pieces, tokenizer), strict=True)))
    rows = [[next(parts) for _ in example.pieces] for example in examples]
    return [_laid(fitted(row, most), sum(len(ids) for _, ids in row) > most) for row in rows]


def fitted(parts: list[Part], most: int) -> list[Part] | None:
    """The parts of a row with enough left out and shortened that they fit: first whole turns, the oldest first, then what may be
    cut, never an answer. None where that is not enough.

    Args:
        parts: in order.
        most: tokens of the row.
    """
    over = sum(len(ids) for _, ids in parts) - most
    for turn in sorted({piece.turn for piece, _ in parts if piece.turn is not None}):
        if over <= 0:
            break
        over -= sum(len(ids) for piece, ids in parts if piece.turn == turn)
        parts = [part for part in parts if part[0].turn != turn]
    fitting = []
    for piece, ids in parts:
        gone = min(max(over, 0), len(ids) - 1) if piece.cut != "no" else 0
        over -= gone
        fitting.append((piece, _shortened(piece, ids, len(ids) - gone) if gone > 0 else ids))
    return None if over > 0 else fitting


def _shortened(piece: Piece, ids: list[int], room: int) -> list[int]:
    """So many of a piece's tokens: the first, the last, or some with those in them that stay."""
    start = 0 if piece.cut == "end" else len(ids) - room
    if piece.keep is not None:
        first, last = (place * len(ids) // max(1, len(piece.text)) for place in piece.keep)
        last = min(len(ids), last + 1)
        # Where in the row they come to lie follows from the text: were it the middle, a model would learn that and not to read.
        lowest, highest = max(0, last - room), max(0, min(first, len(ids) - room))
        share = zlib.crc32(np.array(ids, np.uint32).tobytes()) / 2**32
        start = lowest + int(share * max(0, highest - lowest))
    return ids[start : start + room]


def _laid(parts: list[Part] | None, shortened: bool) -> Laid | None:
    if parts is None:
        return None
    row, roles = [], []
    for piece, ids in parts:
        role = (LEARNED if piece.learn else 0) | (OWN if piece.kind == "text" else 0)
        row += ids
        roles += [role | BEGINS, *[role] * (len(ids) - 1)] if ids else []
    if roles:
        roles[0] |= FIRST
    return Laid(row, roles, shortened)


def _encoded(pieces: Sequence[Piece], tokenizer: Tokenizer) -> list[list[int]]:
    """The tokens of each piece; only the words of the task may spell special ones."""
    texts = [piece.text for piece in pieces if piece.kind == "text"]
    own = iter(tokenizer.encode_batch(texts))
    words = {piece.text for piece in pieces if piece.kind == "markup"}
    known = {text: tokenizer.encode_markup(text) for text in words}
    ends = [tokenizer.end_id]
    return [
        next(own) if piece.kind == "text" else known[piece.text] if piece.kind == "markup" else ends
        for piece in pieces
    ]


def last_of(pieces: Sequence[Piece], tokenizer: Tokenizer) -> int:
    """The last token of some pieces: of those that end an answer, the one that ends it.

    Args:
        pieces: at least one that is not empty.
        tokenizer: of the run.
    """
    return _encoded(pieces, tokenizer)[-1][-1]


def targets_of(ids: NDArray[np.int64], roles: NDArray[np.uint8], nothing: int) -> NDArray[np.int64]:
    """For each token of a row but its last the next one, where it is learned; else `nothing`.

    Args:
        ids: (T,) tokens of the row.
        roles: (T,) bits, as above.
        nothing: the target that is not learned.

    Returns:
        (T - 1,).
    """
    return np.where(roles[1:] & LEARNED, ids[1:], nothing)


def pieces_of(ids: Sequence[int], roles: Sequence[int]) -> list[tuple[int, list[int]]]:
    """(role, tokens) of each piece of a row, in order.

    Args:
        ids: tokens of the row.
        roles: of each token, as `Laid` has them.

    Returns:
        Of the bits of a role only `LEARNED` and `OWN`.
    """
    pieces: list[tuple[int, list[int]]] = []
    for token, role in zip(ids, roles, strict=True):
        if role & BEGINS or not pieces:
            pieces.append((role & (LEARNED | OWN), []))
        pieces[-1][1].append(token)
    return pieces
