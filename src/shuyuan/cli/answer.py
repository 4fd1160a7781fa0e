"""`shuyuan answer`: an answer from a text or an index, with the place where it stands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from . import indexed
from .frame import AsJson, Debug, Variant, frame
from .inputs import Column, File, column_of, write


def answer(
    asked: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] QUESTION",
            help="A run that reads, which an index does not need, and the question; - is stdin, as is a question left out beside "
            "an index.",
        ),
    ] = None,
    context: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The text that may hold the answer; - is stdin. Without it and --index the model answers by heart.",
        ),
    ] = None,
    index: Annotated[Path | None, typer.Option(help="The index that may hold the answer.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Passages of the index that are read and shown.")] = 5,
    file: File = None,
    column: Column = "question",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of the run's answer at most [default: 100].")
    ] = None,
    variant: Variant = "original",
    key: Annotated[
        str | None, typer.Option("--key", help="Where the vault's key is, if run or index is sealed.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Answer a question from a text or an index. What is answered is cited, with its place."""
    settings = {} if max_tokens is None else {"max_tokens": max_tokens}
    if file is not None:
        if index is not None or len(asked or []) != 1:
            raise typer.BadParameter("Give a run alone beside it.", param_hint="--input")
        _answer_file(
            (asked or [""])[0],
            context,
            file,
            column,
            settings,
            variant,
            key,
            (as_json, debug),
        )
        return
    asked = asked or ["-"]
    if len(asked) > 2 or (len(asked) < 2 and index is None):
        raise typer.BadParameter(
            "Give a run and a question, or a question and --index.", param_hint="[RUN] QUESTION"
        )
    if len(asked) < 2 and (variant != "original" or max_tokens is not None):
        raise typer.BadParameter(
            "An index alone has neither variants nor tokens; name a run too.", param_hint="[RUN] QUESTION"
        )
    if context is not None and index is not None:
        raise typer.BadParameter("Give --context or --index, one of the two.", param_hint="--index")
    with frame(as_json, debug) as told:
        question = sys.stdin.read().strip() if asked[-1] == "-" else asked[-1]
        if index is not None and len(asked) == 1:
            indexed.give(told, question, index, key, top)
            return
        from ..loaded import LoadedRun  # loads torch, which an index alone does without

        run = LoadedRun(asked[0], key, told.screen, variant)
        if index is not None:
            indexed.give(told, question, index, key, top, run.reader(**settings))
            return
        text = None if context is None else _read(context)
        found = run.answer(question, text, **settings)
        result = {"question": question, "answer": found.text, "found": found.found, "start": found.start}
        told.give(result, lambda: write([found.text], many=False))


def _answer_file(
    run: str,
    context: Path | None,
    file: Path,
    column: str,
    settings: dict[str, int],
    variant: str,
    key: str | None,
    how: tuple[bool, bool],
) -> None:
    """Answers the questions in a column of a file, all from one text."""
    with frame(*how) as told:
        from ..loaded import LoadedRun

        questions = column_of(file, column)
        loaded = LoadedRun(run, key, told.screen, variant)
        found = loaded.answers(questions, None if context is None else _read(context), **settings)
        rows = [
            {"question": question, "answer": each.text, "found": each.found, "start": each.start}
            for question, each in zip(questions, found, strict=True)
        ]
        told.give({"answers": rows}, lambda: write((str(row["answer"]) for row in rows), many=True))


def _read(file: Path) -> str:
    from ..data.sources.opening import open_text

    if str(file) == "-":
        return sys.stdin.read()
    with open_text(file) as stream:
        return stream.read()
