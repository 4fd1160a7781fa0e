"""`shuyuan info`: what a run is and how far it got."""

from __future__ import annotations

from typing import Any

from .frame import AsJson, Debug, Folder, Key, frame


def info(run: Folder, key: Key = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show what this run is and how far it got."""
    with frame(as_json, debug) as answer:
        from .. import pipeline, report

        with pipeline.look(run, key) as job:
            summary = report.summary(job.run, job.store)
        answer.give(summary, lambda: show_summary(answer.screen.out, summary))


def show_summary(out: Any, summary: dict[str, Any]) -> None:
    """Prints a run's summary as a table."""
    from rich.table import Table

    from ..tasks import task_named
    from .screen import duration, promise, quantity

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
        table.add_row("peak memory", quantity(summary["peak_bytes"], "bytes"))
    loss = summary["loss"]
    if loss["train"] is not None:
        held_out = "not measured" if loss["validation"] is None else f"{loss['validation']:.3f}"
        table.add_row("loss", f"training {loss['train']:.3f}, validation {held_out} nats a {target}")
    table.add_row("privacy", promise(summary["privacy"], "none: what the model memorised is not bounded"))
    table.add_row("sealed", "yes" if summary["sealed"] else "no: this run lies in the clear")
    out.print(table)
    if summary["scores"]:
        show_scores(out, summary["scores"])


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
