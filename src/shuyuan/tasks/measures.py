"""Measures of what a model writes: BLEU, chrF and ROUGE by the libraries that people compare with, and intervals around them.

The libraries are the extra `tasks`; they are loaded when something is measured.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..errors import missing_extra
from .base import Task
from .languages import CHINESE, words

RESAMPLES, DRAWN_AT_ONCE = 1000, 2**20  # of an interval; records that are drawn before their mean is taken
CONFIDENCE = 0.95
_RUN = re.compile(r"(\w{40,}|\W{40,})")  # as a model writes that is stuck; words of people are shorter
ROUGE = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}


def check_installed(task: Task) -> None:
    """Says before any work that a library is missing that the task's scores need.

    Args:
        task: whose scores are wanted.

    Raises:
        MachineError: names the extra.
    """
    if any(find_spec(name) is None for name in task.libraries):
        raise missing_extra(f"Scoring {task.name}", "tasks")


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of records' scores, and where it lies on records like these: a percentile bootstrap over records.

    Args:
        values: one score a record; one at least.

    Returns:
        (mean, low, high) of the interval of 95 %, from 1,000 draws of a fixed seed.

    Reference: Efron, "Bootstrap methods: another look at the jackknife", 1979.
    """
    scores_N = np.asarray(values, np.float64)
    random, count = np.random.default_rng(0), len(scores_N)
    at_once = max(1, DRAWN_AT_ONCE // count)
    parts = [min(at_once, RESAMPLES - start) for start in range(0, RESAMPLES, at_once)]
    means = np.concatenate([scores_N[random.integers(0, count, (rows, count))].mean(1) for rows in parts])
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(scores_N.mean()), float(low), float(high)


def with_interval(name: str, found: tuple[float, float, float]) -> dict[str, float]:
    """A score under its name, and its interval beside it.

    Args:
        name: the score's.
        found: (score, low, high).

    Returns:
        {NAME, NAME_low, NAME_high}.
    """
    return {name: found[0], f"{name}_low": found[1], f"{name}_high": found[2]}


# ---- sacrebleu -----------------------------------------------------------------------------------------------------


def bleu(answers: Sequence[str], right: Sequence[str], language: str) -> tuple[float, float, float]:
    """Corpus BLEU from 0 to 100 with its bootstrap interval; Chinese is cut into characters.

    Args:
        answers: what the model wrote.
        right: one reference for each.
        language: of the references: "zh", or another, whose words sacrebleu's tokenizer 13a cuts.

    Returns:
        (score, low, high) of the interval of 95 %.

    Reference:
        Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002; by sacrebleu (Post 2018).
    """
    from sacrebleu.metrics.bleu import BLEU

    return _corpus(BLEU(tokenize="zh" if language == CHINESE else "13a"), answers, right)


def chrf(answers: Sequence[str], right: Sequence[str]) -> tuple[float, float, float]:
    """Corpus chrF from 0 to 100 with its bootstrap interval.

    Args:
        answers: what the model wrote.
        right: one reference for each.

    Returns:
        (score, low, high) of the interval of 95 %.

    Reference:
        Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015; by sacrebleu.
    """
    from sacrebleu.metrics.chrf import CHRF

    return _corpus(CHRF(), answers, right)


def _corpus(metric: Any, answers: Sequence[str], right: Sequence[str]) -> tuple[float, float, float]:
    # The library's own bootstrap breaks off where float32 meets float64 (sacrebleu 2.6), so its parts are used: a row of counts
    # for each answer, and the score of their sum.
    counts_NS = np.array(metric._extract_corpus_statistics(list(answers), [list(right)]), np.float64)
    score = metric.corpus_score(list(answers), [list(right)]).score
    drawn = np.random.default_rng(0).integers(0, len(counts_NS), (RESAMPLES, len(counts_NS)))
    scores = [
        float(metric._compute_score_from_stats(counts_NS[each].sum(0).tolist()).score) for each in drawn
    ]
    low, high = np.quantile(scores, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(score), float(low), float(high)


def chrf_of(answer: str, right: str) -> float:
    """chrF of one answer.

    Args:
        answer: what the model wrote.
        right: its reference.

    Returns:
        0 to 100.
    """
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(answer, [right]).score)


# ---- ROUGE ---------------------------------------------------------------------------------------------------------


def rouge(answer: str, right: str) -> dict[str, float]:
    """F of ROUGE-1, -2 and -L of one answer, from 0 to 1; words are compared, and characters of Chinese.

    Args:
        answer: what the model wrote.
        right: its reference.

    Returns:
        {rouge_1, rouge_2, rouge_l}.

    Reference:
        Lin, "ROUGE: a package for automatic evaluation of summaries", 2004; by rouge-score.
    """
    found = _scorer().score(right, answer)
    return {name: float(found[key].fmeasure) for key, name in ROUGE.items()}


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import Tokenizer

    class Words(Tokenizer):  # type: ignore[misc]
        def tokenize(self, text: str) -> list[str]:
            return words(text)

    return RougeScorer(list(ROUGE), tokenizer=Words())


# ---- exact match and F1 --------------------------------------------------------------------------------------------

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation + "，。！？；：、“”‘’（）《》「」『』…—·")


def normal(text: str) -> list[str]:
    """The words that answers are compared by: SQuAD's normalisation, and each Chinese character by itself.

    Args:
        text: an answer.

    Reference:
        Rajpurkar et al., "SQuAD", EMNLP 2016.
    """
    return words(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)))


def exact(answer: str, right: str) -> float:
    """1 where both are the same but for case, punctuation and articles, else 0.

    Args:
        answer: what the model wrote.
        right: a right answer.
    """
    return float(normal(answer) == normal(right))


def overlap(answer: str, right: str) -> float:
    """F1 of the words of both.

    Args:
        answer: what the model wrote.
        right: a right answer.

    Returns:
        0 to 1; of an empty one 1 if both are.
    """
    ours, theirs = normal(answer), normal(right)
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))


def best(measure: Callable[[str, str], float], answer: str, right: Sequence[str]) -> float:
    """The score beside the right answer that it is nearest to.

    Args:
        measure: a score of (answer, right answer).
        answer: what the model wrote.
        right: the right answers, one at least.
    """
    return max(measure(answer, each) for each in right)


# ---- what is written -----------------------------------------------------------------------------------------------


def distinct(texts: Sequence[str], size: int) -> float:
    """Different n-grams over all n-grams of some texts: near 0 where they say the same over and over.

    Args:
        texts: what was written.
        size: words of an n-gram; a Chinese character is a word.

    Returns:
        0 to 1; 0 where no text is as long.

    Reference: Li et al., "A diversity-promoting objective function for neural conversation models", NAACL 2016.
    """
    grams = [gram for text in texts for gram in _grams(_units(text), size)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(texts: Sequence[str], size: int = 4) -> float:
    """The mean share of a text's n-grams that stood in it before: near 1 where it says one thing over and over.

    Args:
        texts: what was written.
        size: words of an n-gram. Default 4.

    Returns:
        0 to 1.
    """
    shares = []
    for text in texts:
        grams = _grams(_units(text), size)
        shares.append(1 - len(set(grams)) / len(grams) if grams else 0.0)
    return sum(shares) / max(1, len(shares))


def _units(text: str) -> list[str]:
    """Words; where so many letters, or marks and spaces, stand in a row that they are none, their characters."""
    pieces = _RUN.split(text.lower())
    return [unit for place, piece in enumerate(pieces) for unit in (piece if place % 2 else words(piece))]


def _grams(tokens: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]
