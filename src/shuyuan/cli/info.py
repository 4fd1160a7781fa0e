"""`shuyuan info`: what a run is and how far it got."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..sizes import size
from .frame import AsJson, Debug, Key, frame


def info(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN", help="A run folder; with --owner several, or folders of runs [default: runs]."
        ),
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option("--owner", metavar="ID", help="Tell which runs hold records of this owner."),
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what this run is and how far it got. Or which runs hold records of an owner."""
    if owner is None and len(runs or []) != 1:
        raise typer.BadParameter("Name one run, or ask for an owner with --owner.", param_hint="RUN")
    with frame(as_json, debug) as answer:
        from .. import pipeline, report

        if owner is not None:
            found = report.owner_in_runs(owner, runs or [pipeline.RUNS], key)
            untold = any(row["contains"] is None for row in found["runs"])
            answer.give(found, lambda: _show_owner(answer.screen.out, found), status=1 if untold else 0)
            return
        with pipeline.look((runs or [])[0], key) as job:
            summary = report.summary(job.run, job.store)
        answer.give(summary, lambda: show_summary(answer.screen.out, summary))


def show_summary(out: Any, summary: dict[str, Any]) -> None:
    """Prints a run's summary as a table."""
    from rich.table import Table

    from ..tasks import task_named
    from .compress import show_variants
    from .screen import duration, promise, promise_together

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    target = task_named(summary["task"]).target
    table.add_row("run", str(summary["run"]))
    table.add_row("status", summary["status"])
    table.add_row("task", f"{summary['task']}, {summary['family']}")
    if summary["parameters"] is not None:
        table.add_row("parameters", f"{summary['parameters']:,}")
    if summary["steps"]:
        table.add_row(
            "trained",
            f"{summary['steps']:,} steps, {summary['tokens']:,} {target}s, {duration(summary['seconds'])}",
        )
    if summary["peak_bytes"]:
        table.add_row("peak memory", size(summary["peak_bytes"]))
    loss = summary["loss"]
    if loss["train"] is not None:
        held_out = "not measured" if loss["validation"] is None else f"{loss['validation']:.3f}"
        table.add_row("loss", f"training {loss['train']:.3f}, validation {held_out} nats a {target}")
    table.add_row("privacy", promise(summary["privacy"], "none: what the model memorised is not bounded"))
    if summary["data_set"] is not None:
        table.add_row("data set", promise_together(summary["data_set"]))
    table.add_row("sealed", "yes" if summary["sealed"] else "no: this run lies in the clear")
    out.print(table)
    if len(summary["variants"]) > 1:
        show_variants(out, summary["variants"])
    if summary["scores"]:
        show_scores(out, summary["scores"])


def _show_owner(out: Any, found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from ..report import wording

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("run", "records", "trained", "starts from"):
        table.add_column(heading, overflow="fold")
    for row in found["runs"]:
        splits = ", ".join(f"{count:,} {split}" for split, count in row["splits"].items())
        records = f"unknown: {row['reason']}" if row["contains"] is None else splits or "none"
        epsilon = "" if row["epsilon"] is None else f", ε = {wording.upper(row['epsilon'])} so far"
        private = {None: "unknown", True: f"privately{epsilon}", False: "without privacy"}[row["private"]]
        table.add_row(*map(Text, (row["run"], records, private, row["starts_from"] or "")))
    out.print(table)


def show_scores(out: Any, scores: dict[str, dict[str, dict[str, float]]]) -> None:
    """Prints scores, one line a metric; its name begins with the split."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("task", "variant", "score", ""):
        table.add_column(heading)
    for task, variants in scores.items():
        for variant, metrics in variants.items():
            for name, value in metrics.items():
                table.add_row(task, variant, name, f"{value:.4f}")
    out.print(table)
