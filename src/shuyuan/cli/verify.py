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
    """Check seals and hash chains of every file."""
    with frame(as_json, debug) as answer:
        from .. import pipeline

        with pipeline.look(run, key) as job:
            problems = [{"file": problem.file, "what": problem.what} for problem in job.store.verify(expect)]
            head = job.store.head()
            sealed = job.store.sealed
        result = {"ok": not problems, "problems": problems, "epsilon_recomputed": None, "head": head}
        answer.give(result, lambda: _show(answer.screen.out, result, sealed), status=0 if not problems else 1)


def _show(out: Any, result: dict[str, Any], sealed: bool) -> None:
    for problem in result["problems"]:
        out.print(f"{problem['file']}: {problem['what']}", markup=False)
    if not result["ok"]:
        return
    if sealed:
        out.print(
            "Every seal and chain holds. Note this head to find an older folder put back (verify --expect HEAD):"
        )
        out.print(result["head"], soft_wrap=True)
    else:
        out.print(
            "The logs' chains hold. This run is open: they find accidents, not people who mean to deceive."
        )
