"""`shuyuan verify`: is everything in the run as it was written?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .frame import AsJson, Debug, Folder, Key, frame


def verify(
    run: Folder,
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="HEAD", help="The head noted earlier: finds a whole older folder."),
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check seals and hash chains of every file, and that the data set's ledger knows this run."""
    with frame(as_json, debug) as answer:
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
            "The logs' chains hold. This run is open: they find accidents, not people who mean to deceive."
        )
