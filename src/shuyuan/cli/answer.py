"""`shuyuan answer`: an answer from a text or an index, with the place where it stands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .frame import AsJson, Debug, Variant, frame
from .inputs import shown
from .run import visible

if TYPE_CHECKING:
    from ..retrieval import Answer, Found
    from .frame import Answer as Shown

SHOWN = 240  # characters of a passage


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
    max_tokens: Annotated[int, typer.Option(help="Tokens of the answer at most.")] = 100,
    variant: Variant = "original",
    key: Annotated[
        str | None, typer.Option("--key", help="Where the vault's key is, if run or index is sealed.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Answer a question from a text or an index, and cite where the answer stands."""
    asked = asked or ["-"]
    if len(asked) > 2 or (len(asked) < 2 and index is None):
        raise typer.BadParameter(
            "Give a run and a question, or a question and --index.", param_hint="[RUN] QUESTION"
        )
    if context is not None and index is not None:
        raise typer.BadParameter("Give --context or --index, one of the two.", param_hint="--index")
    with frame(as_json, debug) as told:
        from .. import pipeline

        question = sys.stdin.read().strip() if asked[-1] == "-" else asked[-1]
        run = pipeline.LoadedRun(asked[0], key, told.screen, variant) if len(asked) == 2 else None
        if index is not None:
            _from_index(told, question, index, run, top, key)
            return
        assert run is not None
        text = None if context is None else _read(context)
        found = run.answer(question, text, max_tokens=max_tokens)
        result = {"question": question, "answer": found.text, "found": found.found, "start": found.start}
        told.give(result, lambda: _print_line(shown(found.text, False)))


def _print_line(text: str) -> None:
    sys.stdout.write(text + "\n")


def _from_index(told: Shown, question: str, index: Path, run: Any, top: int, key: str | None) -> None:
    from .. import retrieval

    reader = None if run is None else run.reader()
    found = retrieval.answer(question, retrieval.Index(index, key), reader, top)
    told.give(found.as_dict(), lambda: _show(told.screen.out, found))


def _read(file: Path) -> str:
    from ..data.sources.opening import open_text

    if str(file) == "-":
        return sys.stdin.read()
    with open_text(file) as stream:
        return stream.read()


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
