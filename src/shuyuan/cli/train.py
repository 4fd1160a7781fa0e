"""`shuyuan train`: the run up to and with this stage."""

from __future__ import annotations

from .frame import AsJson, Changes, Debug, Key, Out, Where, frame
from .info import show_summary


def train(
    target: Where,
    out: Out = None,
    changes: Changes = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train to the last step; go on from the newest checkpoint."""
    with frame(as_json, debug) as answer:
        from .. import pipeline, report

        with answer.leading(), answer.begin(target, "train", out, changes, key) as job:
            pipeline.make_plan(job)
            pipeline.prepare(job)
            pipeline.train_model(job)
            summary = report.summary(job.run, job.store)
        answer.give(summary, lambda: show_summary(answer.screen.out, summary))
