"""What speaks against the settings of a private run, from public numbers alone: said before training, and never by a loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

# Lengths of noise over those of clipped gradients: private runs with Muon's automatic rate learned at 28, and at 57, 85 and 160
# ended above guessing (docs/lab-notes.md).
LOUD = 40


def doubts(stated: Mapping[str, Any], learning: int, *, guessable: bool = False) -> Iterator[tuple[str, str]]:
    """(code, what is said) of each doubt.

    Args:
        stated: noise_multiplier, expected_batch, delta and units of a mechanism, as `ledger.stated` gives them.
        learning: parameters that learn.
        guessable: whether sampling and noise follow from a number in the recipe.
    """
    # The noise has the deviation σ·C in each coordinate, and so about the length σ·C·√d; clipped gradients of B units sum up to B·C.
    times = stated["noise_multiplier"] * math.sqrt(learning) / stated["expected_batch"]
    if times > LOUD:
        yield (
            "privacy.loud-noise",
            f"The noise of a step will be about {times:,.0f} times as long as the clipped gradients of its {stated['expected_batch']:,.0f} "
            "units can be together: the model may end worse than guessing. Take more units a step (train.batch_size), more of them, "
            "fewer parameters (model.size, train.lora), a public model to start from, a larger ε, or a lower train.learning_rate.",
        )
    if stated["delta"] * stated["units"] >= 1:
        yield (
            "privacy.large-delta",
            f"δ = {stated['delta']:g} is no less than one over the {stated['units']:,} units: giving away all records of one of them would keep "
            "such a promise. Leave privacy.delta out.",
        )
    if guessable:
        yield (
            "privacy.insecure-seed",
            "Sampling and noise follow from privacy.insecure_seed, which stands in the recipe: a test, and no protection at all.",
        )
