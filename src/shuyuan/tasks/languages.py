"""English and Chinese: which of the two a text is, its sentences, and its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

ENGLISH, CHINESE = "en", "zh"
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_LETTER = re.compile(r"[^\W\d_]")
CHINESE_SHARE = 0.2  # of a text's letters; names and terms in Latin letters are long beside characters

# A sentence ends with a full stop, a question or an exclamation mark and what closes quotes; the Latin ones only before a space.
# Not after an initial or a common title.
_END = re.compile(
    "(?:[。！？；!?…]|(?<!\\b[A-Z])(?<!\\bMr)(?<!\\bMrs)(?<!\\bMs)(?<!\\bDr)(?<!\\bSt)(?<!\\bvs)(?<!\\be\\.g)(?<!\\bi\\.e)\\.)"
    "+[\"'”’」』）)\\]]*"
)


def language_of(text: str) -> str:
    """ "zh" for a text with enough Chinese characters, else "en".

    Args:
        text: any text.
    """
    han, letters = len(_HAN.findall(text)), len(_LETTER.findall(text))
    return CHINESE if han and han >= CHINESE_SHARE * letters else ENGLISH


def by_language(text: str, english: str, chinese: str) -> str:
    """The wording that goes with a text.

    Args:
        text: tells the language.
        english, chinese: the two wordings.
    """
    return chinese if language_of(text) == CHINESE else english


def sentences(text: str) -> list[str]:
    """The text cut behind its sentences and at its line ends; joined, it is the text again.

    Args:
        text: in English or Chinese.
    """
    cuts = [0]
    for found in re.finditer(r"\n+", text):
        cuts.append(found.end())
    for found in _END.finditer(text):
        end = found.end()
        latin = found[0].lstrip("\"'”’)]").startswith((".", "!", "?"))
        if latin and end < len(text) and not text[end].isspace() and not _HAN.match(text[end]):
            continue
        while end < len(text) and text[end] in " \t":
            end += 1
        cuts.append(end)
    places = sorted({*cuts, len(text)})
    return [text[start:stop] for start, stop in pairwise(places)]


def filled(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The text in as few parts as fit, cut between sentences; a sentence that does not fit is cut between words.

    Args:
        text: without space around its parts.
        fits: whether a part does.
    """
    if not text.strip():
        return []
    if fits(text.strip()):
        return [text.strip()]
    pieces = sentences(text)
    if len(pieces) == 1:
        pieces = re.findall(r"[^\s，、：,:]+[\s，、：,:]*|[\s，、：,:]+", text)
    if len(pieces) == 1:
        pieces = [text[: len(text) // 2], text[len(text) // 2 :]] if len(text) > 1 else []
    parts: list[str] = []
    for piece in pieces:
        if parts and fits((parts[-1] + piece).strip()):
            parts[-1] += piece
        else:
            parts.append(piece)
    if len(pieces) < 2:
        return [text.strip()]  # one character: whoever asks will say that it does not fit
    return [each for part in parts for each in filled(part, fits)]


def joined(texts: Sequence[str], like: str = "", to: str = "") -> str:
    """Texts one after another: with a space between, unless they are Chinese.

    Args:
        texts: sentences.
        like: a text in their language; left out, it is told by themselves.
        to: their language, where it is known.
    """
    language = to or language_of(like or "".join(texts))
    return ("" if language == CHINESE else " ").join(text for text in texts if text)


def words(text: str) -> list[str]:
    """Lower-case words, each Chinese character one of its own; punctuation is none.

    Args:
        text: in any language; space and punctuation part its words.
    """
    return re.findall(f"{_HAN.pattern}|[^\\W_{_HAN.pattern[1:-1]}]+", text.lower())
