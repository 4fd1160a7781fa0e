"""Answers without a model: the sentence that tells most of what is asked, and a span beside its words.

Both are baselines with the signature of a reader, so that a model's reader can stand in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from .passages import Place, sentences
from .words import PARTICLES, Unit, asked, terms, units

LONGEST = 12  # words of a span; of Chinese, characters
_STOPS = '。！？；，、.!?;,:：()（）"“”「」'

Rarity = Callable[[str], float]


class Span(NamedTuple):
    """A stretch of one of the contexts that answers a question.

    Attributes:
        context: which of them, from 0.
        start: first character.
        end: the character behind the last.
        score: the higher the better; comparable for one question only.
    """

    context: int
    start: int
    end: int
    score: float


class Reader(Protocol):
    """Finds the answer to a question in some contexts, the likeliest first; None where it does not stand in them."""

    def __call__(self, question: str, contexts: Sequence[str]) -> Span | None: ...


def best_sentence(question: str, contexts: Sequence[str], rarity: Rarity) -> Span | None:
    """The sentence that shares most with the question; of equal ones the one of the earlier context, then the shorter.

    Args:
        question: what is asked.
        contexts: passages, the likeliest first.
        rarity: how much a term tells.
    """
    wanted = {term: rarity(term) for term in asked(question)}
    best: Span | None = None
    for number, context in enumerate(contexts):
        for start, end in sentences(context):
            shared = wanted.keys() & set(terms(context[start:end]))
            score = sum(wanted[term] for term in sorted(shared))
            found = Span(number, start, end, score)
            if shared and (best is None or _order(found) > _order(best)):
                best = found
    return best


def _order(span: Span) -> tuple[float, int, int]:
    return span.score, -span.context, span.start - span.end


def window_span(question: str, context: str, rarity: Rarity) -> Span | None:
    """A span of few words next to the words of the question: the sliding-window baseline of reading comprehension.

    In the best sentence, every stretch of words between those of the question, particles and stops is a candidate; it is worth what the
    question's words around it tell, the nearer the more.

    Args:
        question: what is asked.
        context: one passage.
        rarity: how much a term tells.

    Reference:
        Richardson, Burges and Renshaw 2013, MCTest, section 4.1; Rajpurkar et al. 2016, SQuAD, section 5.
    """
    sentence = best_sentence(question, [context], rarity)
    if sentence is None:
        return None
    words = [unit for unit in units(context[: sentence.end]) if unit.start >= sentence.start]
    wanted = {unit.term for unit in units(question)}
    near = [_nearness(words, place, wanted, rarity) for place in range(len(words))]
    best: Span | None = None
    for first, last in _stretches(context, words, wanted):
        score = sum(near[first : last + 1]) / (last - first + 1)
        if best is None or score > best.score:
            best = Span(0, words[first].start, words[last].end, score)
    return best


def _nearness(words: list[Unit], place: int, wanted: set[str], rarity: Rarity) -> float:
    return sum(
        rarity(word.term) / abs(other - place)
        for other, word in enumerate(words)
        if other != place and word.term in wanted
    )


def _stretches(context: str, words: list[Unit], wanted: set[str]) -> list[Place]:
    """Longest runs of words without the question's, particles and stops between them, cut at `LONGEST`."""
    found: list[Place] = []
    first: int | None = None
    for place, word in enumerate(words):
        between = context[words[place - 1].end : word.start] if place else ""
        breaks = word.term in wanted or word.term in PARTICLES
        if first is not None and (breaks or any(c in _STOPS for c in between) or place - first >= LONGEST):
            found.append((first, place - 1))
            first = None
        if not breaks and first is None:
            first = place
    if first is not None:
        found.append((first, len(words) - 1))
    return found
