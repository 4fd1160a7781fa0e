"""From a question and a text to the rows in which a model looks for the answer: windows of the text, each behind the question.

Training, evaluation and prediction cut their windows here, so that a model is asked as it was taught.

Legend: N rows, T tokens of a row. An input (2, T) holds the token ids, `FILL` where no token stands, and the side of each token:
0 up to the text, 1 from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..tasks import Example
from ..tasks.extractive import place_of
from .manifest import Pair
from .tokenizer import Tokenizer
from .widths import FILL, WIDTHS

OVERLAP = 128  # tokens that stand in two neighbouring windows, at most half of one: an answer that one cuts stands in the other
NOWHERE = (0, 0)  # the target where the answer is not in the window: the row's first token


class Asked(NamedTuple):
    """A question and a text as tokens, and where in it the answer stands.

    Attributes:
        question, text: token ids.
        answer: (first, one after the last) of the text; None: it is not there.
    """

    question: list[int]
    text: list[int]
    answer: tuple[int, int] | None = None


class Window(NamedTuple):
    """One row.

    Attributes:
        ids: its tokens.
        first: where in the row the text begins.
        start, stop: which of the text's tokens they are.
    """

    ids: list[int]
    first: int
    start: int
    stop: int

    def holds(self, answer: tuple[int, int]) -> bool:
        """Whether the window has all of an answer.

        Args:
            answer: (first, one after the last) token of the text.
        """
        return self.start <= answer[0] and answer[1] <= self.stop

    def target(self, answer: tuple[int, int] | None) -> tuple[int, int]:
        """The row's first and last token of the answer; its very first token where the window does not hold it whole.

        Args:
            answer: (first, one after the last) token of the text; None: it is not there.
        """
        if answer is None or not self.holds(answer):
            return NOWHERE
        shift = self.first - self.start
        return answer[0] + shift, answer[1] - 1 + shift


def places(question: int, text: int, around: Pair, context: int) -> list[tuple[int, int]]:
    """Which tokens of a text stand in each of its windows, all of one length, the last two overlapping as far as they must.

    Args:
        question: its tokens.
        text: its tokens.
        around: the special tokens of a row.
        context: tokens of a row at most.
    """
    room = context - sum(map(len, around)) - min(question, longest_question(around, context))
    if text <= room:
        return [(0, text)]
    step = room - min(OVERLAP, room // 2)
    starts = range(0, text - room + step, step)
    return [(min(start, text - room), min(start, text - room) + room) for start in starts]


def longest_question(around: Pair, context: int) -> int:
    """Tokens of a question that are read: half of what there is room for.

    Args:
        around: the special tokens of a row.
        context: tokens of a row at most.
    """
    return (context - sum(map(len, around))) // 2


def windows(asked: Asked, around: Pair, context: int) -> list[Window]:
    """The rows of a question and its text.

    Args:
        asked: both as tokens.
        around: the special tokens before, between and behind them.
        context: tokens of a row.
    """
    before, between, behind = around
    question = asked.question[: longest_question(around, context)]
    opening = [*before, *question, *between]
    return [
        Window([*opening, *asked.text[start:stop], *behind], len(opening), start, stop)
        for start, stop in places(len(question), len(asked.text), around, context)
    ]


def filled_windows(rows: Sequence[Window], context: int, width: int | None = None) -> NDArray[np.int64]:
    """Rows as one input (N, 2, T).

    Args:
        rows: at most `context` long.
        context: tokens of a row at most.
        width: T; None: as long as the longest, rounded up.
    """
    longest = max((len(row.ids) for row in rows), default=1)
    width = width or min(-(-longest // WIDTHS) * WIDTHS, context)
    inputs_N2T = np.zeros((len(rows), 2, width), np.int64)
    inputs_N2T[:, 0] = FILL
    for place_2T, row in zip(inputs_N2T, rows, strict=True):
        place_2T[0, : len(row.ids)] = row.ids
        place_2T[1, row.first : len(row.ids)] = 1
    return inputs_N2T


def question_and_text(example: Example) -> tuple[str, str]:
    """What is asked, and the text to look in: the one that a prompt may shorten.

    Args:
        example: of a task whose answers stand in a text.

    Raises:
        DataError: the record has none.
    """
    given = [piece for piece in example.pieces if piece.kind == "text" and not piece.learn]
    text = next((piece.text for piece in given if piece.cut != "no"), None)
    if text is None:
        raise DataError(
            "data.no-context",
            "The model points to the answer in a text, and the record has none.",
            where="data.context",
            mend="Name the column of the texts as `data.context`, or start from a model that writes.",
        )
    return next(piece.text for piece in given if piece.cut == "no"), text


def paired(examples: Sequence[Example], tokenizer: Tokenizer) -> list[Asked | str]:
    """Records as tokens, with the place of the answer; in place of one that cannot be learned, why.

    An answer is looked for where the record says that it is; if it is not (the file is wrong, or cleaning moved it), at the
    nearest place where it is.

    Args:
        examples: of a task whose answers stand in a text.
        tokenizer: of the run.

    Raises:
        DataError: a record has no text to look in.
    """
    asked = [question_and_text(example) for example in examples]
    questions = tokenizer.encode_batch([question for question, _ in asked])
    texts = tokenizer.encode_placed([text for _, text in asked])
    return [
        _paired(example, text, question, *placed)
        for example, (_, text), question, placed in zip(examples, asked, questions, texts, strict=True)
    ]


def _paired(
    example: Example, text: str, question: list[int], ids: list[int], places_N2: NDArray[np.int64]
) -> Asked | str:
    if not question or not ids:
        return "records whose question or context has no token"
    keep = next(piece.keep for piece in example.pieces if piece.cut != "no")
    if keep is not None and keep[0] == keep[1]:
        return Asked(question, ids)
    answer = next(piece.text for piece in example.pieces if piece.learn and piece.kind == "text")
    found = None if keep is None else place_of(text, answer, keep[0])
    if found is None:
        return "records whose answer does not stand in their context"
    inside = np.flatnonzero((places_N2[:, 1] > found[0]) & (places_N2[:, 0] < found[1]))
    if not len(inside):
        return "records whose answer has no token"
    return Asked(question, ids, (int(inside[0]), int(inside[-1]) + 1))
