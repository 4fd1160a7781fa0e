"""Answers as places in a text: where a model that reads a question beside it says that the answer begins and ends.

Shapes: B rows, T tokens of a row, S tokens of the text in it, L tokens of the longest answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data import Asked, Tokenizer, filled_windows, windows
from ..data.pairs import Window
from ..errors import ShuyuanError
from ..hardware import Precision as PrecisionName
from ..models import AnyNetwork
from .arrays import computed

BATCH = 32
LONGEST = 64  # tokens of an answer: that of a question is seldom longer, and a wrong one often is


class Place(NamedTuple):
    """A stretch of a text that may be the answer.

    Attributes:
        score: how much likelier it is, in nats, than that its window holds no answer; 0 or less: it holds none.
        start: its first token or character.
        stop: the one behind its last.
    """

    score: float
    start: int
    stop: int


class Spanner:
    """Finds answers in texts of any length: in windows, each behind the question, of which the best answer counts.

    Args:
        model: a network that tells places.
        tokenizer: its tokenizer.
        precision: of its matrix products.

    Raises:
        ShuyuanError: the model does something else, or the tokenizer has no template for two texts.
    """

    def __init__(self, model: AnyNetwork, tokenizer: Tokenizer, precision: PrecisionName = "fp32") -> None:
        around = tokenizer.pair()
        if model.config.output != "spans" or around is None:
            raise ShuyuanError(
                "inference.no-places",
                "The model does not point to answers in a text.",
                mend='Train with task = "question-answering" from an encoder.',
            )
        self._tokenizer, self._around, self._context = tokenizer, around, model.context
        self._computed = computed(model, precision)

    def find(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        longest: int = LONGEST,
        count: int = 1,
        done: Callable[[int], None] = lambda _: None,
    ) -> Iterator[list[Place]]:
        """The likeliest places of each answer in its text, in characters, the best first; none in a text without a token.

        Args:
            pairs: question and text of each.
            longest: tokens of an answer at most.
            count: places wanted of each.
            done: told of each pair that is there, by its number.
        """
        for start in range(0, len(pairs), BATCH):
            part = pairs[start : start + BATCH]
            questions = self._tokenizer.encode_batch([question for question, _ in part])
            texts = self._tokenizer.encode_placed([text for _, text in part])
            asked = [Asked(question, ids) for question, (ids, _) in zip(questions, texts, strict=True)]
            found = self.find_tokens(asked, longest=longest, count=count)
            for number, (places, (_, at_S2)) in enumerate(zip(found, texts, strict=True), start):
                done(number)
                yield [
                    Place(score, int(at_S2[first, 0]), int(at_S2[stop - 1, 1]))
                    for score, first, stop in places
                ]

    def find_tokens(
        self, asked: Sequence[Asked], *, longest: int = LONGEST, count: int = 1
    ) -> list[list[Place]]:
        """The same of texts that are tokens already; places are tokens.

        Args:
            asked: question and text of each, in tokens.
            longest: tokens of an answer at most.
            count: places wanted of each.
        """
        rows = [(number, row) for number, each in enumerate(asked) for row in self._windows(each)]
        found: list[dict[tuple[int, int], float]] = [{} for _ in asked]  # one place may stand in two windows
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            logits_B2T = self._computed.places(filled_windows([row for _, row in part], self._context))
            for (number, row), logits_2T in zip(part, logits_B2T, strict=True):
                inside = logits_2T[:, row.first : row.first + row.stop - row.start]
                nowhere = float(logits_2T[:, 0].sum())
                for score, first, stop in likeliest(inside, longest, count):
                    place = row.start + first, row.start + stop
                    found[number][place] = max(score - nowhere, found[number].get(place, -np.inf))
        return [
            sorted((Place(score, *place) for place, score in scores.items()), reverse=True)[:count]
            for scores in found
        ]

    def _windows(self, asked: Asked) -> list[Window]:
        return windows(asked, self._around, self._context) if asked.text else []


def found_in(places: Sequence[Place]) -> tuple[int, int] | None:
    """The best of some places, which come in order; None where it is likelier that none holds the answer.

    Args:
        places: of one text, the best first.
    """
    return places[0][1:] if places and places[0].score > 0 else None


def likeliest(logits_2S: NDArray[np.float32], longest: int, count: int) -> list[tuple[float, int, int]]:
    """(sum of both logits, start, stop) of the likeliest stretches, the best first.

    Args:
        logits_2S: of each place as the first and the last.
        longest: places of a stretch at most.
        count: stretches wanted.
    """
    begin_S, end_S = logits_2S.astype(np.float64)
    longest = min(longest, len(begin_S))
    padded = np.concatenate([end_S, np.full(longest - 1, -np.inf)])
    sums_SL = begin_S[:, None] + np.lib.stride_tricks.sliding_window_view(padded, longest)
    flat = sums_SL.ravel()
    count = min(count, len(flat))
    best = np.argpartition(-flat, count - 1)[:count]
    best = best[np.argsort(-flat[best], kind="stable")]
    return [
        (float(flat[place]), int(place) // longest, int(place) // longest + int(place) % longest + 1)
        for place in best.tolist()
        if np.isfinite(flat[place])
    ]
