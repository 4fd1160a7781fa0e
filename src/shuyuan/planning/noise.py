"""Private training: what ε costs in noise for other batches and numbers of steps, and what that says of the best size.

What a private model learns depends on its size, its steps, and the ratio of the noise's deviation to the batch: of σ, the noise
multiplier, to B, the units a step. That is the finding of McKenna et al., "Scaling laws for differentially private language
models", ICML 2025 (arXiv 2501.18914), for BERT models of 4.5 to 778 million parameters. Their measured losses are not at hand, so
no loss is predicted here. What is told is exact, as the ratio of each row, or a rule of theirs: at the same compute the best model
is at least ten times smaller than without privacy, with 1,000 to 100,000 tokens for each parameter at ε from 1 to 10; and more
compute alone soon stops helping, unless ε or the number of units grows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ..privacy import Mechanism
from ..privacy.accountant import epsilon, noise_multiplier_near
from .scaling import CHINCHILLA, FLOPS_A_TOKEN

INTERVAL = 1e-3  # by which privacy losses are rounded in a plan: ten times as coarse as in training, and as much faster
SMALLER = 10  # times, at least, than the best model without privacy
TOKENS_A_PARAMETER, OF_EPSILON = (1e3, 1e5), (1.0, 10.0)
LITTLE = 0.7  # of the ratio: what four times the batch must get below to be worth four times the work
# What is changed in each row: ε, units a step, steps.
ROWS = ((1, 1, 1), (0.25, 1, 1), (4, 1, 1), (1, 4, 1), (1, 1, 4), (1, 4, 0.25), (1, 0.25, 4))


@dataclass(frozen=True)
class Row:
    """One way to train, and its noise.

    Attributes:
        epsilon: that all steps cost.
        batch_size: units a step on average.
        steps: of training.
        noise_multiplier: the least for it, within a hundredth.
        noise_to_batch: noise_multiplier / batch_size.
    """

    epsilon: float
    batch_size: int
    steps: int
    noise_multiplier: float
    noise_to_batch: float


def choices(mechanism: Mechanism, parameters: int, tokens: int, *, writes: bool) -> dict[str, Any]:
    """The table of ε against noise, batch and steps, and what it says of batch and size; as `plan --json` prints it.

    Args:
        mechanism: of the plan's own steps.
        parameters: of the model.
        tokens: learned from.
        writes: whether it is a language model that learns from nothing, which the rules on sizes are about.
    """
    spent = epsilon(
        mechanism.noise_multiplier, mechanism.sampling_rate, mechanism.steps, mechanism.delta, INTERVAL
    )
    rows = table(mechanism, spent) if 0 < spent < math.inf else []
    return {
        "noise_to_batch": mechanism.noise_multiplier / mechanism.expected_batch,
        "table": [asdict(row) for row in rows],
        "size": _size(parameters, tokens, spent) if writes else None,
        "rules": _rules(rows),
    }


def table(mechanism: Mechanism, spent: float) -> list[Row]:
    """The plan's own row, then other ε, larger batches, more steps, and the same work in larger and in smaller batches.

    Args:
        mechanism: what each step does.
        spent: its ε, finite and above 0.
    """
    found: dict[tuple[float, int, int], Row] = {}
    noise, batch = mechanism.noise_multiplier, mechanism.expected_batch
    for of_epsilon, of_batch, of_steps in ROWS:
        target = spent * of_epsilon
        size = min(mechanism.units, max(1, round(batch * of_batch)))
        steps = max(1, round(mechanism.steps * of_steps))
        if (target, size, steps) in found:
            continue
        own = (of_epsilon, size, steps) == (1, round(batch), mechanism.steps)
        guess = noise if own else noise * of_epsilon**-0.5 * (size / batch) ** 0.3 * of_steps**0.2
        least = noise if own else noise_multiplier_near(
            guess, target, size / mechanism.units, steps, mechanism.delta, INTERVAL * max(1.0, target)
        )  # fmt: skip
        if least is not None:
            found[target, size, steps] = Row(target, size, steps, least, least / size)
    return list(found.values())


def _size(parameters: int, tokens: int, spent: float) -> dict[str, Any]:
    """What the rules say of the size, by counting all parameters and six operations for each and each token."""
    work = parameters * tokens
    alone, _ = CHINCHILLA.best(FLOPS_A_TOKEN * work)
    usual = None
    if OF_EPSILON[0] <= spent <= OF_EPSILON[1]:
        fewest, most = TOKENS_A_PARAMETER
        usual = [round(math.sqrt(work / ratio)) for ratio in (most, fewest)]
    return {
        "tokens_a_parameter": tokens / parameters,
        "best_without_privacy": round(alone),
        "best_at_most": round(alone / SMALLER),
        "best_between": usual,
    }


def _rules(rows: list[Row]) -> list[str]:
    """What the table says of batches; nothing where no row has the plan's ε and steps in a larger batch."""
    if not rows:
        return []
    here = rows[0]
    larger = [
        row for row in rows
        if (row.epsilon, row.steps) == (here.epsilon, here.steps) and row.batch_size > here.batch_size
    ]  # fmt: skip
    if not larger:
        return [
            "Each step takes all units: only a larger ε, or more units, lowers the noise beside the batch."
        ]
    share, times = larger[0].noise_to_batch / here.noise_to_batch, larger[0].batch_size / here.batch_size
    if share > LITTLE:
        return [
            f"A batch {times:g} times as large lowers the noise beside it to {share:.0%} alone: more compute helps little unless ε or the "
            "number of units grows."
        ]
    return [
        f"A batch {times:g} times as large lowers the noise beside it to {share:.0%}: larger batches are worth their time before more steps are."
    ]
