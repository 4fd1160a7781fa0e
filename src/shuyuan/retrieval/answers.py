"""Answers from an index: the best passages, what in them answers, where it stands, or that a person should be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..errors import DataError
from .index import Found, Index
from .spans import Reader, best_sentence


@dataclass(frozen=True)
class Answer:
    """What an index answers.

    Attributes:
        question: as it was asked.
        answer: None where nothing fits, and where a person should be asked.
        source: the passage that holds the answer, narrowed to it; of pairs, the matched question.
        passages: those that fit best, the best first; of pairs with their answers, which a person may choose from.
        confidence: of pairs: how likely the answer is right, or, not calibrated, how similar the question is.
        hand_over: of pairs: whether a person should be asked.
    """

    question: str
    answer: str | None
    source: Found | None
    passages: list[Found] = field(default_factory=list)
    confidence: float | None = None
    hand_over: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """As `shuyuan answer --json` prints it."""
        told: dict[str, Any] = {"question": self.question, "answer": self.answer}
        told["source"] = self.source and self.source.as_dict()
        if self.hand_over is not None:
            told |= {"confidence": self.confidence, "hand-over": self.hand_over}
        return told | {"passages": [passage.as_dict() for passage in self.passages]}


def answer(question: str, index: Index, reader: Reader | None = None, top: int = 5) -> Answer:
    """Answers a question from an index.

    Args:
        question: what is asked.
        index: of documents or of pairs.
        reader: finds the answer in the passages; default: the sentence that shares most with the question. Pairs need none.
        top: passages that are read and shown.

    Raises:
        DataError: the question is empty, or a reader is given for pairs.
    """
    if not question.strip():
        raise DataError(
            "retrieval.empty-question",
            "The question is empty.",
            mend="Ask something, in quotes: shuyuan answer …",
        )
    if index.pairs and reader is not None:
        raise DataError(
            "retrieval.nothing-to-read",
            "The index holds questions with their answers, which no model needs to read.",
            mend="Ask without a run: shuyuan answer QUESTION --index INDEX",
        )
    passages = index.search(question, top)
    if index.matching is not None:
        return _matched(question, index, passages)
    read = reader or partial(best_sentence, rarity=index.scoring.rarity)
    span = read(question, [passage.text for passage in passages]) if passages else None
    if span is None:
        return Answer(question, None, None, passages)
    source = passages[span.context].part(span.start, span.end)
    return Answer(question, source.text, source, passages)


def _matched(question: str, index: Index, passages: Sequence[Found]) -> Answer:
    assert index.matching is not None
    vote = index.vote(question)
    confidence = index.matching.confidence_of(vote.evidence)
    if vote.answer < 0:
        return Answer(question, None, None, [], 0.0, True)
    [source] = index.passages({vote.pair: vote.score})
    hand_over = vote.evidence < index.matching.threshold
    said = None if hand_over else source.answer
    return Answer(question, said, source, list(passages), confidence, hand_over)
