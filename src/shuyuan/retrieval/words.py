"""What an index counts in a text: English words without their plural, Chinese characters and pairs of neighbours.

Chinese is not cut into words: single characters and pairs find more than a dictionary does (docs/lab-notes.md), need none,
and know every name. Traditional and simplified characters are different characters here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

# Scripts that put no spaces between words: Han, kana in both widths.
CHINESE = "\u3005\u3007\u3041-\u3096\u309d\u309e\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_MARKS = "\u0300-\u036f"  # accents that follow their letter
_RUN = re.compile(rf"[{CHINESE}]+|[^\W_{CHINESE}](?:[^\W_{CHINESE}]|[{_MARKS}])*")
_STARTS_CHINESE = re.compile(f"[{CHINESE}]")


class Unit(NamedTuple):
    """A word, or a Chinese character, where it stands."""

    start: int
    end: int
    term: str


def terms(text: str) -> list[str]:
    """What is counted in a text, in order; of Chinese each character and each pair of neighbours.

    Args:
        text: of a passage, or a question.
    """
    found: list[str] = []
    for run in _RUN.findall(text):
        if _STARTS_CHINESE.match(run):
            characters = unicodedata.normalize("NFKC", run)
            found += characters
            found += [first + second for first, second in pairwise(characters)]
        else:
            found.append(_word(run))
    return found


def units(text: str) -> Iterator[Unit]:
    """The words and Chinese characters of a text with their places.

    Args:
        text: any.

    Yields:
        (start, end, word) in order; places in characters.
    """
    for run in _RUN.finditer(text):
        if not _STARTS_CHINESE.match(run[0]):
            yield Unit(run.start(), run.end(), _word(run[0]))
            continue
        for at, character in enumerate(run[0], run.start()):
            yield Unit(at, at + 1, unicodedata.normalize("NFKC", character))


@lru_cache(maxsize=1 << 16)
def _word(run: str) -> str:
    """A word in small letters, without accents and without the s of plurals and third persons."""
    decomposed = unicodedata.normalize("NFKD", run).casefold()
    return _singular("".join(letter for letter in decomposed if not unicodedata.combining(letter)))


def _singular(word: str) -> str:
    """Three rules instead of a stemmer: they find as much and bring fewer different words together (docs/lab-notes.md)."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    return word[:-1]


# Words that tell nothing of what is asked about, and words that only say what kind of thing is wanted.
_PARTICLES = "a an and are be did do does for had has have in is it on or of that the to was were will with 的 是 了 吗 嗎 呢"
_WANTED = (
    "how many much what when where which who whom whose why 什么 什麼 甚麼 什 么 麼 哪 哪些 哪个 哪個 哪里 哪裡 多少 几 幾 谁 誰 何 "
    "怎么 怎麼 怎样 怎樣 如何 为什 為什"
)
PARTICLES = frozenset(map(_word, _PARTICLES.split()))
_ASKING = PARTICLES | frozenset(map(_word, _WANTED.split()))


def asked(question: str, *, of_questions: bool = False) -> list[str]:
    """What a question asks for: its different terms, sorted, without those that tell nothing.

    Args:
        question: a sentence, or some words.
        of_questions: other questions are searched: how, where and why tell these apart, but say nothing of a passage.
    """
    every = set(terms(question))
    return sorted(every - (PARTICLES if of_questions else _ASKING) or every)
