"""`shuyuan evaluate`: the run up to and with this stage, or a model on a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .frame import AsJson, Changes, Debug, Key, Out, Where, frame
from .info import show_scores


def evaluate(
    target: Where,
    out: Out = None,
    changes: Changes = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="FILE", help="Score a trained run on the records of this file instead."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="With --data: what the model is asked to do, if not what it was trained for."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="FIELD=NAME",
            help="With --data: a column that has another name than in the recipe.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="With --data: records at most.")] = 500,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="With --data: another run for the same task, compared on the same records."
        ),
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Score the model on its held-out splits, beside a baseline. With --data on a file of your own, beside another run's with
    --against."""
    named = _named(columns or [])
    if file is None:
        _only_with_data({"--task": task, "--column": columns, "--against": against})
    with frame(as_json, debug) as answer:
        from .. import pipeline

        if file is not None:
            found = pipeline.evaluate_file(
                target,
                file,
                key=key,
                against=against,
                progress=answer.screen,
                task=task,
                columns=named,
                limit=limit,
            )
            answer.give(found, lambda: _show(answer.screen.out, found))
            return
        with answer.begin(target, "evaluate", out, changes, key) as job:
            pipeline.make_plan(job)
            pipeline.prepare(job)
            pipeline.train_model(job)
            scores = pipeline.evaluate_model(job, again=True)
        answer.give({"scores": scores}, lambda: show_scores(answer.screen.out, scores))


def _named(columns: list[str]) -> dict[str, str]:
    parts = [column.partition("=") for column in columns]
    for field, sign, name in parts:
        if not field or not sign or not name:
            raise typer.BadParameter("write it as FIELD=NAME, such as summary=title", param_hint="--column")
    return {field: name for field, _, name in parts}


def _only_with_data(given: dict[str, Any]) -> None:
    for name in (name for name, value in given.items() if value):
        raise typer.BadParameter("has no effect without --data", param_hint=name)


def _show(out: Any, found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from ..evaluate.slices import described

    out.print(Text(f"{found['task']}, {found['records']:,} records of {found['file']}"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("score", "", "95 % interval"):
        table.add_column(heading)
    scores = found["scores"]
    for name, value in scores.items():
        if name.removesuffix("_low").removesuffix("_high") in scores.keys() - {name}:
            continue
        low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
        table.add_row(name, f"{value:.4g}", "" if low is None else f"{low:.4g} to {high:.4g}")
    for each in found["slices"]:
        name = f"{found['measure']}, {described(each)} ({each['records']:,} records)"
        table.add_row(Text(name), f"{each['mean']:.4g}", f"{each['low']:.4g} to {each['high']:.4g}")
    out.print(table)
    if "against" in found:
        _show_differences(out, found["against"])


def _show_differences(out: Any, against: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    out.print(Text(f"\nLess the score of {against['run']} on the same records"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("score", "difference", "95 % interval", "p"):
        table.add_column(heading)
    for name, each in against["differences"].items():
        spread = f"{each['difference_low']:+.4g} to {each['difference_high']:+.4g}"
        table.add_row(name, f"{each['difference']:+.4g}", spread, f"{each['p_value']:.2g}")
    out.print(table)
