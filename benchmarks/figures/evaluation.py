"""What scores say, and what they say where test records leaked."""

from __future__ import annotations

from collections.abc import Callable

from .page import Page, median
from .running import Finished


def sentiment(score: str) -> Callable[[Finished], float]:
    """A score of the trained run, in percent."""
    return lambda run: 100 * float(run.result["scores"]["sentiment"]["original"][score])


def above_the_other(fact: str) -> Callable[[Finished], float]:
    """Of the accuracy beside another run's on the same records, in points."""
    return lambda run: 100 * float(run.result["against"]["differences"]["accuracy"][fact])


PAGE = Page(
    {
        "clean-validation": median(sentiment("validation.accuracy")),
        "clean-test": median(sentiment("test.accuracy")),
        "clean-low": median(sentiment("test.accuracy_low")),
        "clean-high": median(sentiment("test.accuracy_high")),
        "leaked-validation": median(sentiment("validation.accuracy")),
        "leaked-test": median(lambda run: 100 * run.result["scores"]["accuracy"]),
        "difference": median(above_the_other("difference")),
        "difference-low": median(above_the_other("difference_low")),
        "difference-high": median(above_the_other("difference_high")),
    },
    needs=dict.fromkeys(
        ("leaked-test", "difference", "difference-low", "difference-high"),
        ("clean-test", "leaked-validation"),
    ),
)
