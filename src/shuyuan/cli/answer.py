"""`shuyuan answer`: an answer from an index, with the place where it stands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .frame import AsJson, Debug, frame
from .run import visible

if TYPE_CHECKING:
    from ..retrieval import Answer, Found

SHOWN = 240  # characters of a passage


def answer(
    question: Annotated[str | None, typer.Argument(help="What is asked; - or left out: stdin.")] = None,
    index: Annotated[Path, typer.Option("--index", help="The index that answers.")] = ...,  # type: ignore[assignment]
    top: Annotated[int, typer.Option(min=1, help="Passages that are read and shown.")] = 5,
    key: Annotated[
        str | None, typer.Option("--key", help="Where the vault's key is, if the index is sealed.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Answer a question from an index, and cite where the answer stands."""
    with frame(as_json, debug) as shown:
        from .. import retrieval

        if question is None or question == "-":
            question = sys.stdin.read().strip() if not sys.stdin.isatty() else ""
        told = retrieval.answer(question, retrieval.Index(index, key), top=top)
        shown.give(told.as_dict(), lambda: _show(shown.screen.out, told))


def _show(out: Any, told: Answer) -> None:
    if told.hand_over:
        _print(out, f"Hand over to a person: confidence {told.confidence:.0%}.")
    elif told.answer is None or told.source is None:
        _print(
            out, "Nothing here shares a word with the question." if not told.passages else "Not in the text."
        )
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
