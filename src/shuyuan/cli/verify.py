"""`shuyuan verify`: is everything in a run or an index as it was written?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .frame import AsJson, Debug, Key, frame


def verify(
    run: Annotated[
        Path, typer.Argument(metavar="RUN|INDEX|STATE", help="A run folder, an index, or a server's state.")
    ],
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="HEAD", help="The head noted earlier: finds a whole older folder."),
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check seals and hash chains of every file. And that the data set's ledger knows this run."""
    with frame(as_json, debug) as answer:
        from .. import retrieval
        from ..serve import audit_log

        if retrieval.is_index(run):
            result = retrieval.verify_index(run, key, expect)
        elif audit_log.is_state(run):
            result = audit_log.verify(run, key, expect)
        else:
            from .. import pipeline

            result = pipeline.verify(run, key, expect)
        answer.give(result, lambda: _show(answer.screen.out, result), status=0 if result["ok"] else 1)


def _show(out: Any, result: dict[str, Any]) -> None:
    for problem in result["problems"]:
        out.print(f"{problem['file']}: {problem['what']}", markup=False)
    if not result["ok"]:
        return
    if result["head"]:
        out.print(
            "Every seal and chain holds. Note this head to find an older folder put back (verify --expect HEAD):"
        )
        out.print(result["head"], soft_wrap=True)
    else:
        out.print(
            "All that can be checked holds. This is open: accidents are found, not people who mean to deceive."
        )
