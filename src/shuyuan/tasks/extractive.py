"""Baselines that anyone would try first: sentences of the text itself, and what was said to the most similar prompt before."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from .languages import sentences, words

DAMPING, ROUNDS = 0.85, 50


def lead(text: str) -> str:
    """The first sentence.

    Args:
        text: the text.

    Returns:
        "" where there is none.
    """
    return next((each.strip() for each in sentences(text) if each.strip()), "")


def text_rank(text: str) -> str:
    """The sentence that most others resemble.

    Args:
        text: the text.

    Reference: Mihalcea and Tarau, "TextRank: bringing order into texts", EMNLP 2004; page rank over shared words.
    """
    parts = [each.strip() for each in sentences(text) if words(each)]
    if len(parts) < 2:
        return parts[0] if parts else text.strip()
    sets = [Counter(words(each)) for each in parts]
    count = len(parts)
    alike_NN = np.zeros((count, count))
    for one in range(count):
        for other in range(one):
            shared = len(sets[one].keys() & sets[other].keys())
            size = math.log(1 + sum(sets[one].values())) + math.log(1 + sum(sets[other].values()))
            alike_NN[one, other] = alike_NN[other, one] = shared / size
    given_N = alike_NN.sum(1, keepdims=True)
    passed_NN = np.divide(alike_NN, given_N, out=np.full_like(alike_NN, 1 / count), where=given_N > 0)
    rank_N = np.full(count, 1 / count)
    for _ in range(ROUNDS):
        rank_N = (1 - DAMPING) / count + DAMPING * rank_N @ passed_NN
    return parts[int(rank_N.argmax())]


def nearest_sentence(text: str, question: str) -> str:
    """The sentence that shares most words with a question, the first of several.

    Args:
        text: where the sentence stands.
        question: the question.

    Returns:
        "" of an empty text.
    """
    asked = set(words(question))
    parts = [each.strip() for each in sentences(text) if each.strip()]
    return max(parts, key=lambda part: len(asked & set(words(part))), default="")


def place_of(text: str, answer: str, near: int = 0) -> tuple[int, int] | None:
    """Where an answer stands in a text, of several places the one nearest to a character; None where it does not.

    Args:
        text: where to look.
        answer: what to find, letter for letter.
        near: a character of the text. Default: its first.

    Returns:
        (start, stop) in characters.
    """
    if not answer:
        return None
    if text[near : near + len(answer)] == answer:
        return near, near + len(answer)
    starts = [found.start() for found in re.finditer(f"(?={re.escape(answer)})", text)]
    start = min(starts, key=lambda each: abs(each - near), default=None)
    return None if start is None else (start, start + len(answer))


class Memory:
    """Finds the text that is most like another: shared words, the rarer the weightier, for the words that both have.

    Args:
        texts: to search in.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        places: dict[str, list[int]] = defaultdict(list)
        sets = [set(words(text)) for text in texts]
        for number, known in enumerate(sets):
            for word in known:
                places[word].append(number)
        self._places = {word: np.array(numbers) for word, numbers in places.items()}
        self._weight = {word: math.log(1 + len(texts) / len(numbers)) for word, numbers in places.items()}
        self._norm_N = np.array([self._size(known) for known in sets])

    def nearest(self, text: str) -> int:
        """The number of the most similar text; 0 where none shares a word.

        Args:
            text: what is asked.
        """
        asked = set(words(text))
        score_N = np.zeros(len(self._norm_N))
        for word in asked & self._places.keys():
            score_N[self._places[word]] += self._weight[word] ** 2
        return int((score_N / self._norm_N / max(self._size(asked), 1e-9)).argmax())

    def _size(self, known: set[str]) -> float:
        return math.sqrt(sum(self._weight.get(word, 1.0) ** 2 for word in known)) or 1.0
