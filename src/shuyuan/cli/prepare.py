"""`shuyuan prepare`: the run up to and with this stage."""

from __future__ import annotations

from .frame import AsJson, Changes, Debug, Key, Out, Where, frame
from .info import show_summary


def prepare(
    target: Where,
    out: Out = None,
    changes: Changes = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Clean, mask, split and tokenize the source into shards."""
    with frame(as_json, debug) as answer:
        from .. import pipeline, report

        with answer.begin(target, "prepare", out, changes, key) as job:
            pipeline.make_plan(job)
            pipeline.prepare(job)
            summary = report.summary(job.run, job.store)
        answer.give(summary, lambda: show_summary(answer.screen.out, summary))
