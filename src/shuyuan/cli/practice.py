"""`shuyuan practice`: the handbook's questions, shown and graded, in English and Chinese."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import ShuyuanError
from ..visible import visible
from .frame import Answer, AsJson, Debug, frame

if TYPE_CHECKING:
    from ..handbook import Question, Verdict
    from ..handbook.quantity import Language

app = typer.Typer(
    help="Questions about large models, answered and graded. By itself it lists them.", rich_markup_mode=None
)

Lang = Annotated[
    Literal["en", "zh"] | None,
    typer.Option("--lang", help="Language of pages and remarks [default: the locale's]."),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="A question of `practice list`.")]


@app.callback(invoke_without_command=True)
def practice(context: typer.Context) -> None:
    """What `shuyuan practice` alone does."""
    if context.invoked_subcommand is None:
        list_questions()


@app.command("list")
def list_questions(lang: Lang = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """List the questions with your progress."""
    with frame(as_json, debug) as answer:
        from ..handbook import load_bank, reader
        from ..handbook.words import say

        language = _language(lang)
        done = reader.load(answer.screen, language)
        rows = [_row(question, done.get(question.id), language) for question in load_bank().values()]

        def show() -> None:
            from rich.cells import cell_len
            from rich.table import Table

            from .wrapped import folded

            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for heading in (
                "ID",
                *(say(language, f"column-{name}") for name in ("question", "kind", "state")),
            ):
                table.add_column(heading, no_wrap=heading == "ID")
            beside = [(row["id"], say(language, row["kind"]), row["state"]) for row in rows]
            headings = ("ID", say(language, "column-kind"), say(language, "column-state"))
            taken = sum(max(map(cell_len, column)) + 2 for column in zip(headings, *beside, strict=True))
            for row, (name, kind, state) in zip(rows, beside, strict=True):
                title = folded(row["title"], max(16, answer.screen.out.width - taken - 2))
                table.add_row(name, title, kind, state)
            answer.screen.out.print(table)
            solved = sum(row["solved"] is not None for row in rows)
            answer.screen.out.print(f"\n{say(language, 'solved-count', done=solved, all=len(rows))}")
            _point_to_next(answer, rows, language)

        answer.give({"questions": rows, "next": _next_id(rows)}, show)


@app.command()
def show(
    question_id: Id,
    exercise: Annotated[
        bool, typer.Option("--exercise", help="Show what is asked, without the answer.")
    ] = False,
    lang: Lang = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show a question with its answer, figures, code and exercise."""
    with frame(as_json, debug) as answer:
        _give_page(answer, _find(question_id), _language(lang), only_exercise=exercise)


@app.command("next")
def next_question(lang: Lang = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show the exercise of the next question that you have not solved."""
    with frame(as_json, debug) as answer:
        from ..handbook import load_bank, reader
        from ..handbook.words import say

        language = _language(lang)
        done = reader.load(answer.screen, language)
        left = [q for q in load_bank().values() if not done.get(q.id, {}).get("solved")]
        if left:
            _give_page(answer, left[0], language, only_exercise=True)
        else:
            answer.give({"id": None}, lambda: answer.screen.out.print(say(language, "all-solved")))


@app.command()
def starter(
    question_id: Id,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Write it there [default: print it].")
    ] = None,
    lang: Lang = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Print or write what you begin with. Code with a gap, or the numbers to fill in."""
    with frame(as_json, debug) as answer:
        from ..handbook.words import say

        language = _language(lang)
        text = _find(question_id).starter()
        if to is None:
            answer.give(
                {"id": question_id, "text": text},
                lambda: answer.screen.out.out(text.rstrip(), highlight=False),
            )
            return
        _write_new(to, text)
        command = f"shuyuan practice grade {question_id} {to}"
        written = say(language, "written", file=to, command=command)
        answer.give(
            {"id": question_id, "file": str(to)}, lambda: answer.screen.out.print(written, soft_wrap=True)
        )


@app.command()
def grade(
    question_id: Id,
    answers: Annotated[
        list[str], typer.Argument(metavar="ANSWER|FILE …", help="A file, PART=NUMBER (several), or letters.")
    ],
    lang: Lang = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Grade an answer. Code runs in a limited subprocess: it is your own code, and that is no security sandbox."""
    with frame(as_json, debug) as answer:
        from .. import handbook
        from ..handbook import reader

        language = _language(lang)
        question = _find(question_id)
        verdict = handbook.grade(question, answers, language)
        entry = reader.record(question, verdict, answer.screen, language)
        answer.give(
            _verdict_json(question, verdict, entry),
            lambda: _show_verdict(answer, question, verdict, entry, language),
            status=0 if verdict.correct else 1,
        )


# ---- helpers -------------------------------------------------------------------------------------------------------


def _language(lang: Language | None) -> Language:
    from ..handbook.words import default_language

    return lang or default_language()


def _find(question_id: str) -> Question:
    import difflib

    from ..handbook import load_bank

    bank = load_bank()
    if question_id not in bank:
        near = difflib.get_close_matches(question_id, bank, n=1)
        raise ShuyuanError(
            "handbook.unknown-question",
            f"There is no question “{question_id}”.",
            mend=f"Did you mean {near[0]}?" if near else "See: shuyuan practice list",
        )
    return bank[question_id]


def _row(question: Question, entry: dict[str, Any] | None, language: Language) -> dict[str, Any]:
    from ..handbook.words import say

    facts = question.facts
    state = say(language, "unseen")
    if entry and entry["solved"]:
        state = say(language, "solved")
    elif entry and entry["parts"]:
        state = say(language, "partly", done=len(entry["parts"]), all=len(facts.parts))
    elif entry:
        state = say(language, "tried")
    return {
        "id": question.id,
        "title": facts.title[language],
        "kind": facts.kind,
        "difficulty": facts.difficulty,
        "topics": facts.topics,
        "verb": facts.verb,
        "tries": entry["tries"] if entry else 0,
        "parts": entry["parts"] if entry else [],
        "solved": entry["solved"] if entry else None,
        "state": state,
    }


def _next_id(rows: list[dict[str, Any]]) -> str | None:
    return next((row["id"] for row in rows if row["solved"] is None), None)


def _point_to_next(answer: Answer, rows: list[dict[str, Any]], language: Language) -> None:
    from ..handbook.words import say

    unsolved = _next_id(rows)
    text = say(language, "next-is", id=unsolved) if unsolved else say(language, "all-solved")
    answer.screen.out.print(text, markup=False)


def _give_page(answer: Answer, question: Question, language: Language, *, only_exercise: bool) -> None:
    from .. import handbook

    text = handbook.exercise(question, language) if only_exercise else handbook.page(question, language)
    if only_exercise:
        text = f"# {question.facts.title[language]}\n\n{text}"
    result = {"id": question.id, "kind": question.facts.kind, "language": language, "markdown": text}

    def show_page() -> None:
        from .wrapped import WrappedMarkdown

        answer.screen.out.print(WrappedMarkdown(text, hyperlinks=False, code_theme="ansi_dark"))

    answer.give(result, show_page)


def _write_new(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise ShuyuanError(
            "handbook.file-exists",
            "This file is there already, and may hold your answer.",
            where=str(file),
            mend="Choose another name with --to.",
        ) from None


def _verdict_json(question: Question, verdict: Verdict, entry: dict[str, Any]) -> dict[str, Any]:
    remarks = [
        {"part": r.part, "correct": r.correct, "code": r.code, "text": r.text} for r in verdict.remarks
    ]
    return {
        "id": question.id,
        "correct": verdict.correct,
        "solved": entry["solved"],
        "remarks": remarks,
        "output": verdict.output,
    }


def _show_verdict(
    answer: Answer, question: Question, verdict: Verdict, entry: dict[str, Any], language: Language
) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from ..handbook.words import say
    from .wrapped import folded

    out = answer.screen.out
    if verdict.output.strip():
        out.print(Text(say(language, "your-output"), style="dim"))
        out.print(Padding(Text(visible(verdict.output.rstrip())), (0, 0, 1, 2)))
    for remark in verdict.remarks:
        mark, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("-", "dim")}[remark.correct]
        text = Text(folded(visible(remark.text), out.width - 2).replace("\n", "\n  "))
        if remark.part:
            out.print(Text(f"{mark} {remark.part}", style=style))
            text = Text("  ") + text
        else:
            text = Text(f"{mark} ", style=style) + text
        out.print(text)
    left = [part.id for part in question.facts.parts if part.id not in entry["parts"]]
    if entry["solved"] and verdict.correct:
        out.print(Text(say(language, "question-solved", title=question.facts.title[language]), style="bold"))
    elif left:
        out.print(Text(say(language, "still-open", parts=", ".join(left))))
