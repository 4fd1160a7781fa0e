"""How an answer from an index is given: to programs, and to people with the passages and where they stand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..visible import visible
from .frame import Answer

if TYPE_CHECKING:
    from ..retrieval import Answer as Told
    from ..retrieval import Found, Reader

SHOWN = 240  # characters of a passage


def give(
    answer: Answer, question: str, index: Path, key: str | None, top: int, reader: Reader | None = None
) -> None:
    """Answers a question from an index.

    Args:
        answer: takes what is to be shown.
        question: what is asked.
        index: the folder.
        key: where the key of a sealed one is.
        top: passages that are read and shown.
        reader: finds the answer in the passages; default: the sentence that shares most with the question.
    """
    from .. import retrieval

    told = retrieval.answer(question, retrieval.Index(index, key), reader, top)
    answer.give(told.as_dict(), lambda: _show(answer.screen.out, told))


def _show(out: Any, told: Told) -> None:
    if told.hand_over:
        _print(out, f"Hand over to a person: confidence {told.confidence:.0%}.")
    elif told.answer is None or told.source is None:
        _print(out, "Not in the text." if told.passages else "Nothing here shares a word with the question.")
    else:
        _print(out, told.answer)
        sure = f"; confidence {told.confidence:.0%}" if told.confidence is not None else ""
        _print(out, f"[{told.source.citation}{sure}]")
    for number, passage in enumerate(told.passages, 1):
        out.print()
        _print(out, f"{number}. {passage.citation}, score {passage.score:.2f}")
        _print(out, _brief(passage))


def _brief(passage: Found) -> str:
    text = " ".join(passage.text.split())
    text = text if len(text) <= SHOWN else text[:SHOWN] + " …"
    return text if passage.answer is None else f"{text} → {passage.answer}"


def _print(out: Any, text: str) -> None:
    from .wrapped import folded

    lines = (folded(line, out.width) for line in visible(text).split("\n"))
    out.print("\n".join(lines), markup=False, soft_wrap=True)
