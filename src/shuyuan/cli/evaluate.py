"""`shuyuan evaluate`: the run up to and with this stage."""

from __future__ import annotations

from .frame import AsJson, Changes, Debug, Key, Out, Where, frame
from .info import show_scores


def evaluate(
    target: Where,
    out: Out = None,
    changes: Changes = None,
    key: Key = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Score the model on its held-out splits, beside a Kneser-Ney bigram."""
    with frame(as_json, debug) as answer:
        from .. import pipeline

        with answer.begin(target, "evaluate", out, changes, key) as job:
            pipeline.make_plan(job)
            pipeline.prepare(job)
            pipeline.train_model(job)
            scores = pipeline.evaluate_model(job, again=True)
        answer.give({"scores": scores}, lambda: show_scores(answer.screen.out, scores))
