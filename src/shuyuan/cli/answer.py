"""`shuyuan answer`: an answer from a text or an index, with the place where it stands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import indexed
from .frame import Answer, AsJson, Debug, Variant, frame
from .inputs import Column, File, column_of, write

if TYPE_CHECKING:
    from ..loaded import LoadedRun


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
    asked = asked or ([] if file is not None else ["-"])
    _check_usage(asked, context, index, file, own=variant != "original" or max_tokens is not None)
    settings = {} if max_tokens is None else {"max_tokens": max_tokens}
    with frame(as_json, debug) as told:
        if index is not None and len(asked) == 1:
            indexed.give(told, _question(asked), index, key, top)
            return
        from ..loaded import LoadedRun  # loads torch, which an index alone does without

        if file is not None:
            questions = column_of(file, column)
            _answer_all(told, LoadedRun(asked[0], key, told.screen, variant), questions, context, settings)
            return
        question = _question(asked)
        run = LoadedRun(asked[0], key, told.screen, variant)
        if index is not None:
            indexed.give(told, question, index, key, top, run.reader(**settings))
            return
        text = None if context is None else _read(context)
        found = run.answer(question, text, **settings)
        result = {"question": question, "answer": found.text, "found": found.found, "start": found.start}
        told.give(result, lambda: write([found.text], many=False))


def _check_usage(
    asked: list[str], context: Path | None, index: Path | None, file: Path | None, own: bool
) -> None:
    """Refuses what does not go together; `own` tells that settings of a run are given."""
    if file is not None:
        if index is not None or len(asked) != 1:
            raise typer.BadParameter("Give a run alone beside it.", param_hint="--input")
        return
    if len(asked) > 2 or (len(asked) < 2 and index is None):
        raise typer.BadParameter(
            "Give a run and a question, or a question and --index.", param_hint="[RUN] QUESTION"
        )
    if len(asked) < 2 and own:
        raise typer.BadParameter(
            "An index alone has neither variants nor tokens; name a run too.", param_hint="[RUN] QUESTION"
        )
    if context is not None and index is not None:
        raise typer.BadParameter("Give --context or --index, one of the two.", param_hint="--index")


def _question(asked: list[str]) -> str:
    return sys.stdin.read().strip() if asked[-1] == "-" else asked[-1]


def _answer_all(
    told: Answer, run: LoadedRun, questions: list[str], context: Path | None, settings: dict[str, int]
) -> None:
    """Answers the questions of a file, all from one text."""
    found = run.answers(questions, None if context is None else _read(context), **settings)
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
