"""Scores of passages for a question: BM25 as bm25s computes it, kept as plain arrays.

Shapes: N passages, V terms, P pairs of a term and a passage that holds it. `weights_P` and `holders_P` are sorted by term and
then by passage; those of term v are at `starts_V1[v] : starts_V1[v + 1]`. A weight is what the term adds to the score.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..progress import Stage

if TYPE_CHECKING:
    from bm25s import BM25


@dataclass
class Scoring:
    """Tells how well each passage fits a question.

    Attributes:
        words: the terms, sorted.
        weights_P: what a term adds to the score of a passage that holds it, float32.
        holders_P: that passage, int32.
        starts_V1: where the passages of each term begin, and the end of the last, int64.
        passages: N.
    """

    words: list[str]
    weights_P: NDArray[np.float32]
    holders_P: NDArray[np.int32]
    starts_V1: NDArray[np.int64]
    passages: int
    _numbers: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._numbers = {word: number for number, word in enumerate(self.words)}

    def scores(self, asked: Iterable[str]) -> NDArray[np.float32]:
        """The score of every passage (N,); terms that no passage holds add nothing."""
        known = sorted(self._numbers[term] for term in set(asked) if term in self._numbers)
        scores_N: NDArray[np.float32] = self._bm25.get_scores_from_ids(known)
        return scores_N

    def holders(self, term: str) -> NDArray[np.int32]:
        """The passages that hold a term, rising."""
        if (number := self._numbers.get(term)) is None:
            return self.holders_P[:0]
        return self.holders_P[self.starts_V1[number] : self.starts_V1[number + 1]]

    def rarity(self, term: str) -> float:
        """How much a term tells: BM25's inverse document frequency, also of terms that no passage holds."""
        holders = len(self.holders(term))
        return float(np.log1p((self.passages - holders + 0.5) / (holders + 0.5)))

    def covered(self, asked: Iterable[str], passage: int) -> float:
        """The share of what some terms tell that a passage holds, from 0 to 1."""
        told = {term: self.rarity(term) for term in asked}
        return sum(told[term] for term in told if self._holds(passage, term)) / sum(told.values())

    def _holds(self, passage: int, term: str) -> bool:
        holders = self.holders(term)
        at = int(np.searchsorted(holders, passage))
        return at < len(holders) and bool(holders[at] == passage)

    @cached_property
    def _bm25(self) -> BM25:
        bm25 = _library()
        bm25.scores = {
            "data": self.weights_P,
            "indices": self.holders_P,
            "indptr": self.starts_V1,
            "num_docs": self.passages,
        }
        bm25.nonoccurrence_array = None
        return bm25


def learn(texts: Sequence[list[str]] | Iterable[list[str]], stage: Stage) -> Scoring:
    """The scoring of passages.

    Args:
        texts: the terms of each passage; taken one by one.
        stage: advances by each.

    Raises:
        DataError: there is no term in any of them.
    """
    numbers: dict[str, int] = {}
    rows = []
    for terms in texts:
        rows.append(array("i", [numbers.setdefault(term, len(numbers)) for term in terms]))
        stage.advance()
    if not numbers:
        raise DataError(
            "retrieval.no-words",
            "There is no word in all of the documents.",
            mend="Name files that hold text.",
        )
    words = sorted(numbers)
    place_V = np.empty(len(words), np.int32)  # in sorted order, so that the order of passages leaves no trace
    place_V[[numbers[word] for word in words]] = np.arange(len(words), dtype=np.int32)
    for row in rows:
        view = np.frombuffer(row, np.int32)
        view[:] = place_V[view]
    scores: dict[str, Any] = _library().build_index_from_ids(
        unique_token_ids=range(len(words)), corpus_token_ids=rows, show_progress=False
    )
    return Scoring(
        words,
        scores["data"],
        scores["indices"].astype(np.int32),
        scores["indptr"].astype(np.int64),
        len(rows),
    )


def best(scores_N: NDArray[np.float32], count: int) -> list[int]:
    """The passages with the highest scores above zero, the best first; of equal ones the earlier.

    Args:
        scores_N: of every passage.
        count: how many are wanted at most.

    Returns:
        Numbers of passages.
    """
    fitting = np.flatnonzero(scores_N > 0)
    if len(fitting) > count:
        lowest = np.partition(scores_N[fitting], -count)[-count]
        fitting = fitting[scores_N[fitting] >= lowest]
    order = np.argsort(-scores_N[fitting], kind="stable")[:count]
    found: list[int] = fitting[order].tolist()
    return found


def _library() -> BM25:
    """Lucene's BM25 with k1 = 1.5 and b = 0.75, the library's defaults; others find no more (docs/lab-notes.md)."""
    from bm25s import BM25

    return BM25()
