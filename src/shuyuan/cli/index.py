"""`shuyuan index`: make documents, or questions with their answers, ready to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..sizes import size
from .frame import AsJson, Debug, frame


def index(
    documents: Annotated[
        list[str], typer.Argument(metavar="DOCUMENTS", help="Files, folders or globs; .json may be SQuAD.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder of the index.")],
    text: Annotated[str, typer.Option("--text", help="The column of tables that holds the text.")] = "text",
    question: Annotated[
        str | None,
        typer.Option("--question", help="Of pairs: the column of the questions [default: question]."),
    ] = None,
    answer_: Annotated[
        str | None, typer.Option("--answer", help="Of pairs: the column of the answers [default: answer].")
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Of pairs: the share of questions to answer; the rest is handed over."
        ),
    ] = None,
    accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of pairs: the share of answers that is to be right.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Where the vault's key is; left out, the index is open.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make documents, or known answers, ready for `answer`."""
    with frame(as_json, debug) as answer:
        from ..retrieval import Columns, Wish, build_index

        columns = Columns(text)
        if question is not None or answer_ is not None:
            columns = Columns(question or "question", answer_ or "answer")
        result = build_index(
            documents, out, columns=columns, wish=Wish(coverage, accuracy), key=key, progress=answer.screen
        )
        answer.give(result, lambda: _show(answer.screen.out, result))


def _show(out: Any, made: dict[str, Any]) -> None:
    count = _count(made["passages"], "question with its answer", "questions with answers")
    if not made["pairs"]:
        passages = _count(made["passages"], "passage", "passages")
        count = f"{passages} of {_count(made['documents'], 'document', 'documents')}"
    sealed = "sealed" if made["sealed"] else "open"
    out.print(f"{count}, {size(made['bytes'])}, {sealed}")
    if made["matching"]:
        out.print(_foreseen(made["matching"]))
    out.print(f"next: shuyuan answer --index {made['index']} QUESTION", markup=False, soft_wrap=True)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _foreseen(matching: dict[str, Any]) -> str:
    """What is foreseen of answers, in one sentence."""
    if not matching["calibrated"]:
        return (
            "Hardly any answer has several questions, so that confidence is a similarity, not a probability; questions no "
            "nearer than unrelated ones are handed over."
        )
    accuracy = "none" if matching["accuracy"] is None else f"{matching['accuracy']:.1%} of these answers"
    return (
        f"Of {matching['tried']:,} questions left out in their turn {matching['coverage']:.1%} are answered and the "
        f"others handed over; {accuracy} are right."
    )
