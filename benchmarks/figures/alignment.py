"""What fine-tuning on answers and preferences changes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import _alignment

from .page import Measure, Page, median, validation_loss
from .running import Finished


def exact_match(run: Finished) -> float:
    return 100 * float(run.result["scores"]["exact_match"])


@cache
def preferences(folder: Path) -> dict[str, float]:
    return _alignment.preferences(folder)


def told_by_dpo(fact: str) -> Measure:
    return median(lambda run: preferences(run.folder)[fact])


MEASURES: dict[str, Measure] = {
    "start-loss": median(validation_loss),
    "start-exact": median(exact_match),
    "answers-loss": median(validation_loss),
    "everything-loss": median(
        lambda run: _alignment.held_out_loss(_alignment.tuned_on_everything(run.folder))
    ),
    "right-before": told_by_dpo("right-before"),
    "right-after": told_by_dpo("right-after"),
    "wrong-before": told_by_dpo("wrong-before"),
    "wrong-after": told_by_dpo("wrong-after"),
    "wins-before": told_by_dpo("wins-before"),
    "wins-after": told_by_dpo("wins-after"),
    "margin": told_by_dpo("margin"),
    "answers-exact": median(exact_match),
    "everything-exact": median(lambda run: _alignment.exact_of(_alignment.tuned_on_everything(run.folder))),
}
PAGE = Page(
    MEASURES,
    needs={name: ["start-loss", "answers-loss"] for name in MEASURES if "start" not in name}
    | {"answers-loss": ["start-loss"], "start-exact": ["start-loss"]},
    stands_on={
        **dict.fromkeys(("everything-loss", "everything-exact"), "answers-loss"),
        **{
            f"{what}-{when}": "answers-loss"
            for what in ("right", "wrong", "wins")
            for when in ("before", "after")
        },
        "margin": "answers-loss",
    },
)
