"""`shuyuan audit`: the run up to its model, then what its canaries prove about ε."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .frame import AsJson, Changes, Debug, Key, Out, Where, frame


def audit(
    target: Where,
    out: Out = None,
    white_box: Annotated[
        bool,
        typer.Option(
            "--white-box", help="Score by the weights before and after, the strongest look there is."
        ),
    ] = False,
    changes: Changes = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure a lower bound on ε, with the canaries planted before."""
    with frame(as_json, debug) as answer:
        from .. import pipeline

        with answer.begin(target, "audit", out, changes, key) as job:
            pipeline.make_plan(job)
            pipeline.prepare(job)
            pipeline.train_model(job)
            found = pipeline.audit_model(job, white_box=white_box)
        answer.give(found, lambda: _show(answer.screen.out, found))


def _show(out: Any, found: dict[str, Any]) -> None:
    from rich.table import Table

    from ..report import wording

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    upper, extraction = found["epsilon_upper"], found["extraction"]
    table.add_row(
        "measured", f"ε is at least {found['epsilon_lower']:.3g}, with {found['confidence']:.0%} confidence"
    )
    table.add_row(
        "promised",
        "nothing"
        if upper is None
        else f"ε is at most {wording.upper(upper)} at δ = {wording.upper(found['delta'])}",
    )
    table.add_row(
        "guesses",
        f"{found['correct']:,} of {found['guesses']:,} right, about {found['canaries']:,} canaries; "
        f"all right would show {found['ceiling']:.3g}",
    )
    table.add_row(
        "extracted",
        f"{extraction['brought_back']:,} of {extraction['put_in']:,} that were put in; "
        f"{extraction['brought_back_of_left_out']:,} of {extraction['left_out']:,} that were not",
    )
    out.print(table)
    if upper is not None and found["epsilon_lower"] > upper:
        out.print(
            "The measured bound exceeds the promised one: the guarantee does not hold. Do not release this model."
        )
    else:
        out.print("A low measured bound proves nothing: a stronger attack may find more.")
