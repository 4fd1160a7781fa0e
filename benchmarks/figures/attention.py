"""What a longer context costs, from plans."""

from __future__ import annotations

from .page import Page, Runs, median
from .running import Finished

SHORT_CONTEXT, LONG_CONTEXT = 4096, 131_072


def flops_ratio(_: Runs, all_runs: dict[str, Runs]) -> float:
    long, short = (all_runs[name][0].result for name in ("long-flops", "short-flops"))
    return float(long["train_flops"] / long["tokens"] * short["tokens"] / short["train_flops"])


def equal_context(_: Runs, all_runs: dict[str, Runs]) -> float:
    """Where the part of a token's operations that grows with the context is as large as the rest."""
    long, short = (all_runs[name][0].result for name in ("long-flops", "short-flops"))
    per_long, per_short = (each["train_flops"] / each["tokens"] for each in (long, short))
    per_place = (per_long - per_short) / (LONG_CONTEXT - SHORT_CONTEXT)
    return float(per_short / per_place - SHORT_CONTEXT)


def activations(run: Finished) -> float:
    return float(run.result["items"]["activations"])


def activations_ratio(_: Runs, all_runs: dict[str, Runs]) -> float:
    return activations(all_runs["long-flops"][0]) / activations(all_runs["short-flops"][0])


PAGE = Page(
    {
        "short-flops": median(lambda run: run.result["train_flops"]),
        "long-flops": median(lambda run: run.result["train_flops"]),
        "flops-ratio": flops_ratio,
        "equal-context": equal_context,
        "activations-ratio": activations_ratio,
        "long-activations": median(lambda run: activations(run) / 1e9),
    },
    needs=dict.fromkeys(("flops-ratio", "equal-context", "activations-ratio"), ("short-flops", "long-flops")),
)
