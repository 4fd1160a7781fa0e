"""Questions with known answers: which answer fits a question, how sure that is, and when to hand over.

The most similar questions vote for their answers. Where answers have several questions, the votes are half of an answer's
share, and the words of all its questions the other half.

The confidence is calibrated on the pairs themselves, each left out in its turn: the question is asked, its own pair does
not count, and what fits best of the others is right or wrong. Pairs whose answer stands only once cannot be tried so; where
nearly all are of that kind, the confidence is a similarity and no probability, and this is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..progress import Stage
from .scoring import Scoring, best

NEIGHBOURS = 30  # questions that vote
POWER = 4  # a vote weighs its score to this power: one near question outweighs several far ones
DRAWN = 10  # questions' worth of general frequency that each answer's own frequencies are drawn to
TRIED = 2000  # pairs that are left out in their turn, at most
FEWEST = 50  # pairs in company of others with their answer, at least, for words and confidence to be learned
LEAST = 0.5  # evidence of an answer there; a handful of questions shows too little of what unrelated ones look like
NEVER = 2.0  # a threshold that no evidence reaches
UNRELATED = (
    0.95  # share of questions without an answer here that are handed over where nothing can be calibrated
)


@dataclass(frozen=True)
class Vote:
    """Which answer fits best.

    Attributes:
        answer: its number; -1 where no question shares a word.
        pair: the most similar question with that answer, its number.
        score: of that question.
        evidence: 0 to 1: the answer's share, times the root of how much of the question its most similar one covers.
    """

    answer: int
    pair: int
    score: float
    evidence: float


@dataclass(frozen=True)
class Wish:
    """When to hand over, as a share from 0 to 1: so many questions answered, or so many of the answers right.

    Attributes:
        coverage: of questions that are answered.
        accuracy: of answers that are right. With neither, an answer is given where it is likelier right than wrong.

    Raises:
        DataError: both are wished, or one is no share.
    """

    coverage: float | None = None
    accuracy: float | None = None

    def __post_init__(self) -> None:
        wished = [share for share in (self.coverage, self.accuracy) if share is not None]
        if len(wished) > 1 or not all(0 <= share <= 1 for share in wished):
            raise DataError(
                "retrieval.bad-wish",
                "A wish is either a coverage or an accuracy, from 0 to 1; one follows from the other.",
                mend="Give one of them, for example --coverage 0.9",
            )


@dataclass(frozen=True)
class Matching:
    """How sure a vote is.

    Attributes:
        calibrated: whether `confidence` is a probability.
        evidence: steps, rising; from each on, up to the next, `confidence` holds.
        confidence: of each step.
        threshold: the evidence below which a person is asked.
        coverage: the share of left-out questions that is answered with this threshold, and
        accuracy: the share of these answers that is right; None where nothing could be tried.
        tried: how many were left out in their turn.
    """

    calibrated: bool
    evidence: list[float]
    confidence: list[float]
    threshold: float
    coverage: float | None
    accuracy: float | None
    tried: int

    def confidence_of(self, evidence: float) -> float:
        """The probability that an answer is right; where it is not calibrated, the evidence itself."""
        if not self.calibrated:
            return evidence
        step = int(np.searchsorted(self.evidence, evidence, side="right")) - 1
        return self.confidence[max(step, 0)]

    def as_dict(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return asdict(self)


def vote(
    scoring: Scoring, answers_N: NDArray[np.int32], asked: Sequence[str], without: int | None = None
) -> Vote:
    """Asks the pairs.

    Args:
        scoring: of their questions.
        answers_N: number of each pair's answer.
        asked: the terms of the question.
        without: a pair that does not count.
    """
    scores_N = scoring.scores(asked)
    if without is not None:
        scores_N[without] = 0
    near = best(scores_N, NEIGHBOURS)
    if not near:
        return Vote(-1, -1, 0.0, 0.0)
    sizes_A = np.bincount(answers_N)
    if without is not None:
        sizes_A[answers_N[without]] -= 1
    weights = (scores_N[near].astype(np.float64) / scores_N[near[0]]) ** POWER
    shares_A = np.bincount(answers_N[near], weights, len(sizes_A)) / weights.sum()
    if _in_company(answers_N).sum() >= FEWEST:
        shares_A = (shares_A + _by_words(scoring, answers_N, sizes_A, asked, without)) / 2
    winner = int(shares_A.argmax())
    pair = int(np.where(answers_N == winner, scores_N, -1).argmax())
    evidence = float(shares_A[winner]) * scoring.covered(asked, pair) ** 0.5
    return Vote(winner, pair, float(scores_N[pair]), evidence)


def _in_company(answers_N: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which pairs (N,) share their answer with another one."""
    together_N: NDArray[np.bool_] = np.bincount(answers_N)[answers_N] > 1
    return together_N


def _by_words(
    scoring: Scoring,
    answers_N: NDArray[np.int32],
    sizes_A: NDArray[np.int64],
    asked: Sequence[str],
    without: int | None,
) -> NDArray[np.float64]:
    """The share of each answer (A,) by how much more often its questions have these terms than questions have in general.

    This is naive Bayes with frequencies drawn to those of all questions, and its certainty, which is always too great, halved.
    """
    told_A = np.zeros(len(sizes_A))
    for term in asked:
        holders = scoring.holders(term)
        if without is not None:
            holders = holders[holders != without]
        general = (len(holders) + 0.5) / (sizes_A.sum() + 1)
        counts_A = np.bincount(answers_N[holders], minlength=len(sizes_A))
        told_A += np.log((counts_A / general + DRAWN) / (sizes_A + DRAWN))
    shares_A: NDArray[np.float64] = np.exp((told_A - told_A.max()) / 2)
    shares_A /= shares_A.sum()
    return shares_A


def calibrate(
    scoring: Scoring, answers_N: NDArray[np.int32], asked: Sequence[Sequence[str]], wish: Wish, stage: Stage
) -> Matching:
    """Leaves pairs out in their turn, and finds what a vote is worth and where to hand over.

    Args:
        scoring: of the pairs' questions.
        answers_N: number of each pair's answer.
        asked: the terms of each question.
        wish: when to hand over.
        stage: advances by each pair that is tried.

    Raises:
        DataError: too few questions share an answer for what is wished.
    """
    together = _in_company(answers_N)
    calibrated = int(together.sum()) >= FEWEST
    if not calibrated and wish != Wish():
        raise DataError(
            "retrieval.not-calibrated",
            f"Fewer than {FEWEST} questions share their answer with another one, so that no share of right or given answers "
            "can be foreseen.",
            mend="Leave --coverage and --accuracy out, or give several questions for each answer.",
        )
    tried = np.flatnonzero(together if calibrated else ~together)
    tried = tried[:: -(-len(tried) // TRIED)] if len(tried) else tried
    found = []
    for pair in tried.tolist():
        found.append(vote(scoring, answers_N, asked[pair], without=pair))
        stage.advance(len(answers_N) / len(tried))
    evidence = np.array([each.evidence for each in found])
    if not calibrated:
        # Every one of these questions has lost its answer, and should be handed over.
        threshold = max(LEAST, float(np.quantile(evidence, UNRELATED)) if len(found) else 0.0)
        return Matching(False, [], [], threshold, None, None, len(found))
    right = np.array([each.answer for each in found]) == answers_N[tried]
    steps, confidence = _isotonic(evidence, right)
    threshold = _threshold(evidence, right, steps, confidence, wish)
    answered = evidence >= threshold
    accuracy = float(right[answered].mean()) if answered.any() else None
    return Matching(True, steps, confidence, threshold, float(answered.mean()), accuracy, len(found))


def _isotonic(evidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[list[float], list[float]]:
    """Steps of evidence and the share of right answers in each, never falling; no step claims certainty."""
    from scipy.optimize import isotonic_regression  # loaded only here: 60 MB

    order = np.argsort(evidence, kind="stable")
    found = isotonic_regression(right[order].astype(np.float64))
    starts, sizes = found.blocks[:-1], np.diff(found.blocks)
    shares = (found.x[starts] * sizes + 0.5) / (sizes + 1)
    return evidence[order][starts].tolist(), np.maximum.accumulate(shares).tolist()


def _threshold(
    evidence: NDArray[np.float64],
    right: NDArray[np.bool_],
    steps: list[float],
    confidence: list[float],
    wish: Wish,
) -> float:
    if wish.coverage is not None:
        return float(np.quantile(evidence, 1 - wish.coverage, method="lower"))
    if wish.accuracy is not None:
        order = np.argsort(-evidence, kind="stable")
        accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
        enough = np.flatnonzero(accuracy >= wish.accuracy)
        return float(evidence[order][enough[-1]]) if len(enough) else NEVER
    likelier = [step for step, share in zip(steps, confidence, strict=True) if share >= 0.5]
    return likelier[0] if likelier else NEVER
