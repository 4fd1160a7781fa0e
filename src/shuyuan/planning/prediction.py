"""Puts the formulas together: one recipe and one machine give one plan."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal  # no float holds every slip of the finger
from typing import Any

from ..data import Manifest
from ..errors import RecipeError
from ..hardware import Hardware, Rates, assumed_rates
from ..models import ImageConfig, TransformerConfig
from ..privacy.ledger import stated
from ..recipe import Budget, Recipe
from ..train.resolve import Costs, config_of, fill_in, mechanism_of, stage_seconds, steps_of, steps_within
from .advice import to_fit
from .cost import planned_model, train_flops_per_token
from .estimate import estimated_manifest
from .images import train_flops_per_image
from .memory import Interval, Memory, peak_memory
from .storage import storage_bytes
from .time import predicted_costs

MOST_TOKENS = 1e16  # a thousand times the largest runs
MOST = {"seconds": 1e10, "steps": 1e12, "tokens": MOST_TOKENS, "epochs": 1e6}
MOST_BATCH_TOKENS = 1e9
# Shares of the expected time: of a time budget, which is calibrated; by formula with measured rates; with assumed ones.
BUDGET_SPREAD, MEASURED_SPREAD, ASSUMED_SPREAD = (0.8, 1.25), (0.5, 2.0), (0.25, 4.0)


@dataclass(frozen=True)
class Plan:
    """What a run will need.

    Attributes:
        parameters: exactly as the model will have them.
        train_flops: operations of training; `cost.py` says what is counted.
        tokens: learned from, repeats included.
        peak_bytes: memory at the highest point of the run: the GPU's, or the process's resident memory.
        seconds: training with its evaluations and checkpoints, without preparation.
        storage_bytes: disk at the fullest moment.
        fits: whether the high end of the memory's interval is there; True where the memory is unknown.
        advice: settings that would fit, when it does not.
        items: the parts of the expected peak, in bytes.
        notes: what was guessed, and from what.
        price: None: no rate is known.
        privacy: {epsilon, delta, noise_multiplier, clip, unit, units, sampling_rate, expected_batch, steps, accountant} at the
            end of training; None if it is not private.
    """

    parameters: int
    train_flops: float
    tokens: int
    peak_bytes: Interval
    seconds: Interval
    storage_bytes: int
    fits: bool
    advice: list[str]
    items: dict[str, int]
    notes: list[str]
    privacy: dict[str, Any] | None = None
    price: None = None

    def to_json(self) -> dict[str, Any]:
        """As `shuyuan plan --json` prints it."""
        return {
            "parameters": self.parameters,
            "train_flops": self.train_flops,
            "tokens": self.tokens,
            "peak_bytes": {name: round(size) for name, size in self.peak_bytes.to_json().items()},
            "seconds": self.seconds.to_json(),
            "storage_bytes": self.storage_bytes,
            "price": self.price,
            "fits": self.fits,
            "advice": self.advice,
            "privacy": self.privacy,
            "items": self.items,
            "notes": self.notes,
        }


def plan(recipe: Recipe, hardware: Hardware, rates: Rates | None, manifest: Manifest | None) -> Plan:
    """Predicts what a run will need; nothing is spent, and nobody outside this machine is asked.

    Args:
        recipe: as asked, or as resolved.
        hardware: where it will run.
        rates: measured there; None for rules of thumb, with a wider interval.
        manifest: of the prepared data; None before preparation, when it is guessed from the source.

    Raises:
        RecipeError: model, batch or budget are absurdly large.
        DataError: the source is not there.
    """
    _check_sane(recipe)
    if not recipe.images:
        planned_model(recipe.model, 1)  # an absurd model is refused before anything is read or computed
    notes: list[str] = []
    if manifest is None:
        manifest, notes = estimated_manifest(recipe)
    if rates is None:
        rates = assumed_rates(hardware)
        notes.append("This machine was not measured; times are rules of thumb.")
    recipe = fill_in(recipe, manifest, hardware)
    config = _config(recipe, manifest)
    costs = predicted_costs(recipe, config, manifest, hardware, rates)
    steps, seconds = _steps_and_seconds(recipe, manifest, costs, rates.measured)
    tokens = steps * _batch_tokens(recipe)
    memory = _memory(recipe, manifest, hardware)
    fits = not hardware.memory_bytes or memory.peak.high <= hardware.memory_bytes
    known = manifest
    return Plan(
        parameters=config.parameters,
        train_flops=float(tokens * _flops_per_target(config)),
        tokens=tokens,
        peak_bytes=memory.peak,
        seconds=seconds,
        storage_bytes=storage_bytes(config, manifest, recipe.train),
        fits=fits,
        advice=[]
        if fits
        else to_fit(recipe, hardware.memory_bytes, lambda other: _memory(other, known, hardware).peak),
        items=memory.items,
        notes=notes,
        privacy=_privacy(recipe.replace(**{"train.steps": steps}), manifest),
    )


def _privacy(recipe: Recipe, manifest: Manifest) -> dict[str, Any] | None:
    """The guarantee at the end of training."""
    if recipe.privacy is None:
        return None
    mechanism = mechanism_of(recipe, manifest)
    return stated(mechanism, mechanism.steps)


def _memory(recipe: Recipe, manifest: Manifest, hardware: Hardware) -> Memory:
    return peak_memory(recipe, _config(recipe, manifest), hardware, manifest)


def _config(recipe: Recipe, manifest: Manifest) -> TransformerConfig | ImageConfig:
    if recipe.images:
        return config_of(recipe, manifest)
    return planned_model(recipe.model, manifest.vocab_size, manifest.labels)


def _flops_per_target(config: TransformerConfig | ImageConfig) -> int:
    """Operations for one token, or for one image."""
    if isinstance(config, ImageConfig):
        return train_flops_per_image(config)
    return train_flops_per_token(config)


def _steps_and_seconds(
    recipe: Recipe, manifest: Manifest, costs: Costs, measured: bool
) -> tuple[int, Interval]:
    """Optimizer steps and the time they take; a time budget is the time, and gives the steps."""
    train, budget = recipe.train, Budget.parse(recipe.train.budget)
    spread = MEASURED_SPREAD if measured else ASSUMED_SPREAD
    if train.steps is None and budget.unit == "seconds":
        steps = steps_within(budget.amount, train, costs)
        expected = budget.amount
        if steps > 1:
            spread = BUDGET_SPREAD
        else:  # even one step may take longer than the budget
            expected = max(expected, stage_seconds(steps, train, costs))
    else:
        steps = train.steps or steps_of(budget, recipe, manifest)
        expected = stage_seconds(steps, train, costs)
    if steps * _batch_tokens(recipe) > MOST_TOKENS:
        raise _absurd(
            "budget",
            f"The run would learn from {Decimal(steps * _batch_tokens(recipe)):.0e} tokens.",
            "train.budget",
        )
    return steps, Interval(expected * spread[0], expected, expected * spread[1])


def _batch_tokens(recipe: Recipe) -> int:
    batch_size = recipe.train.batch_size
    each = 1 if recipe.images else recipe.model.context
    return each * (1 if batch_size == "auto" else batch_size)


def _check_sane(recipe: Recipe) -> None:
    """Refuses slips of the finger before anything loops over them."""
    if _batch_tokens(recipe) > MOST_BATCH_TOKENS:
        raise _absurd(
            "batch", f"A step would have {Decimal(_batch_tokens(recipe)):.0e} tokens.", "train.batch_size"
        )
    budget = Budget.parse(recipe.train.budget)
    if recipe.train.steps is not None:
        budget = Budget("steps", recipe.train.steps)
    if budget.amount > MOST[budget.unit]:
        raise _absurd("budget", f"The budget is {Decimal(budget.amount):.0e} {budget.unit}.", "train.budget")


def _absurd(what: str, sentence: str, key: str) -> RecipeError:
    return RecipeError(
        f"plan.absurd-{what}",
        sentence,
        where=key,
        mend="Look for a digit too many; no run has ever been so large.",
    )
