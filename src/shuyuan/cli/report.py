"""`shuyuan report`: the run's page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .frame import AsJson, Debug, Folder, Key, frame


def report(
    run: Folder,
    to: Annotated[Path | None, typer.Option("--to", help="Write the whole page here, in the clear.")] = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the run's page, report.html. With --to, the whole page elsewhere."""
    with frame(as_json, debug) as answer:
        from .. import pipeline, report
        from ..vault import disk

        if to is None:
            with answer.begin(run, "report", None, None, key) as job:
                file = pipeline.write_report(job)
        else:
            with pipeline.look(run, key) as job:
                disk.replace_file(to, report.render(job.run, job.store, whole=True).encode())
            file = to
        answer.give({"report": str(file)}, lambda: answer.screen.out.print(str(file), soft_wrap=True))
