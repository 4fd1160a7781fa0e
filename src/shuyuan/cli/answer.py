"""`shuyuan answer`: an answer to a question, from a text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .frame import AsJson, Debug, Folder, Key, frame
from .inputs import shown


def answer(
    run: Folder,
    question: Annotated[str, typer.Argument(help="The question.")],
    context: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The text that may hold the answer; - is stdin. Left out: the model answers by heart.",
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of the answer at most.")] = 100,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Answer a question from a text, or say that the answer is not there."""
    with frame(as_json, debug) as told:
        from .. import pipeline

        loaded = pipeline.LoadedRun(run, key, told.screen)
        text = None if context is None else _read(context)
        found = loaded.answer(question, text, max_tokens=max_tokens)
        place = {"found": found.found, "start": found.start}

        def show() -> None:
            sys.stdout.write(shown(found.text, False) + "\n")

        told.give({"question": question, "answer": found.text, **place}, show)


def _read(file: Path) -> str:
    from ..data.sources.opening import open_text

    if str(file) == "-":
        return sys.stdin.read()
    with open_text(file) as stream:
        return stream.read()
