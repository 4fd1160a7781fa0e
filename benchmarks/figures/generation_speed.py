"""How fast smaller variants answer, and what they lose."""

from __future__ import annotations

from collections.abc import Callable

from .page import Page, median
from .running import Finished


def of_variant(variant: str, fact: str) -> Callable[[Finished], float]:
    return lambda run: float(run.result["variants"][variant][fact])


def loss_change(variant: str) -> Callable[[Finished], float]:
    """In percent of the original's."""

    def pick(run: Finished) -> float:
        return 100 * (of_variant(variant, "loss")(run) / of_variant("original", "loss")(run) - 1)

    return pick


PAGE = Page(
    {
        "whole-speed": median(of_variant("original", "tokens_per_second")),
        "int8-speed": median(of_variant("int8", "tokens_per_second")),
        "int4-speed": median(of_variant("int4", "tokens_per_second")),
        "int8-memory": median(
            lambda run: of_variant("int8", "memory_bytes")(run) / of_variant("original", "memory_bytes")(run)
        ),
        "int8-loss": median(loss_change("int8")),
        "int4-loss": median(loss_change("int4")),
    },
)
