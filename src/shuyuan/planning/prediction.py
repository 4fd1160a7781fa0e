"""Puts the formulas together: one recipe and one machine give one plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal  # no float holds every slip of the finger
from typing import Any

from ..compress import wanted
from ..data import Manifest
from ..errors import MachineError, RecipeError
from ..hardware import Hardware, Machines, Rates, assumed_rates
from ..models import ImageConfig, RnnConfig, TransformerConfig
from ..privacy import Mechanism
from ..privacy.ledger import stated
from ..recipe import Budget, Recipe
from ..train.parts import config_of, row_width
from ..train.resolve import (
    Costs,
    divisors,
    enough_said,
    enough_steps,
    fill_in,
    mechanism_of,
    stage_items,
    stage_seconds,
    steps_of,
    steps_within,
)
from .advice import Advice, Asked, Outcome, against_waste, to_fit
from .cost import planned_model, train_flops_per_token
from .estimate import estimated_manifest
from .host import beside, lora_items, not_modelled
from .images import train_flops_per_image
from .layouts import Layout, costs_together, held_by_each
from .memory import Interval, Memory, peak_memory
from .noise import INTERVAL, choices
from .rnn import flops_per_token
from .scaling import foreseen
from .serving import serving
from .storage import export_bytes, storage_items
from .time import precision_of, predicted_costs
from .units import with_units

ALONE = Layout()
MOST_TOKENS = 1e16  # a thousand times the largest runs
MOST = {"seconds": 1e10, "steps": 1e12, "tokens": MOST_TOKENS, "epochs": 1e6}
MOST_BATCH_TOKENS = 1e9
MOST_PRICE = 1e9  # of a device and an hour, in any money
MOST_PHYSICAL_TOKENS = 32_768  # of a device: more fill no GPU better
OVERHEAD = 1.5  # power of hosts, network and cooling beside that of the accelerators
# Shares of the expected time: of a time budget, which is calibrated; by formula with measured rates; with assumed ones.
BUDGET_SPREAD, MEASURED_SPREAD, ASSUMED_SPREAD = (0.8, 1.25), (0.5, 2.0), (0.25, 4.0)


@dataclass(frozen=True)
class Price:
    """What a training takes.

    Attributes:
        device_hours: expected.
        energy_kwh: of the accelerators at full load, with the power of all around them; None for CPUs.
        hourly: what one device costs an hour; None if no rate was given.
        amount: low, expected and high, in the money of `hourly`.
    """

    device_hours: float
    energy_kwh: float | None
    hourly: float | None
    amount: dict[str, float] | None


@dataclass(frozen=True)
class Plan:
    """What a run will need.

    Attributes:
        parameters: exactly as the model will have them.
        train_flops: operations of training; `cost.py` says what is counted.
        tokens: learned from, repeats included.
        peak_bytes: memory at the highest point of the run: the GPU's, or the process's resident memory.
        seconds: training with its evaluations and checkpoints, without preparation.
        storage_items: the parts of the disk at its fullest moment.
        fits: whether the high end of the memory's interval is there; True where the memory is unknown.
        better: settings that would fit, when it does not, or save much, when it does.
        items: the parts of the expected peak, in bytes.
        notes: what was guessed, and from what.
        price: device hours, energy and money; None for this machine without a rate.
        beyond: what stands beside training: {scaling, time_items, exports, lora, host, serving, not_modelled}.
        privacy: {epsilon, delta, noise_multiplier, clip, unit, units, sampling_rate, expected_batch, steps, accountant} at the
            end of training; None if it is not private.
        noise: what other batches, steps and ε would need of it, as `noise.choices` tells; None if it is not private.
    """

    parameters: int
    train_flops: float
    tokens: int
    peak_bytes: Interval
    seconds: Interval
    storage_items: dict[str, int]
    fits: bool
    better: list[Advice]
    items: dict[str, int]
    notes: list[str]
    privacy: dict[str, Any] | None = None
    noise: dict[str, Any] | None = None
    price: Price | None = None
    beyond: dict[str, Any] = field(default_factory=dict)

    @property
    def storage_bytes(self) -> int:
        """Disk at the fullest moment."""
        return sum(self.storage_items.values())

    @property
    def advice(self) -> list[str]:
        """What is better, a sentence each."""
        return [advice.sentence() for advice in self.better]

    def to_json(self) -> dict[str, Any]:
        """As `shuyuan plan --json` prints it."""
        return {
            "parameters": self.parameters,
            "train_flops": self.train_flops,
            "tokens": self.tokens,
            "peak_bytes": {name: round(size) for name, size in self.peak_bytes.to_json().items()},
            "seconds": self.seconds.to_json(),
            "storage_bytes": self.storage_bytes,
            "storage_items": self.storage_items,
            "price": asdict(self.price) if self.price else None,
            "fits": self.fits,
            "advice": self.advice,
            "better": [advice.to_json() for advice in self.better],
            "privacy": self.privacy,
            "noise": self.noise,
            "items": self.items,
            "notes": self.notes,
            **self.beyond,
        }


def plan(
    recipe: Recipe,
    hardware: Hardware,
    rates: Rates | Callable[[], Rates] | None,
    manifest: Manifest | None,
    elsewhere: Machines | None = None,
    hourly_price: float | None = None,
    layout: Layout = ALONE,
) -> Plan:
    """Predicts what a run will need; nothing is spent, and nobody outside this machine is asked.

    Args:
        recipe: as asked, or as resolved.
        hardware: where it will run: one device of it.
        rates: measured there, or what measures them, which is called once nothing else can be refused; None for rules of thumb,
            with a wider interval.
        manifest: of the prepared data; None before preparation, when it is guessed from the source.
        elsewhere: other machines than this one, with their number; memory is then that of each device.
        hourly_price: of one device.
        layout: how the model lies over several devices.

    Raises:
        RecipeError: model, batch, budget or price are absurd.
        DataError: the source is not there.
    """
    _check_sane(recipe)
    if hourly_price is not None and not 0 <= hourly_price <= MOST_PRICE:
        raise RecipeError(
            "plan.absurd-price",
            f"{hourly_price:g} an hour is no price of a device.",
            where="--price",
            mend="Give what one device costs an hour, such as 2.5.",
        )
    if not recipe.images:
        planned_model(recipe.model, 1)  # an absurd model is refused before anything is read or computed
    notes: list[str] = []
    if manifest is None:
        manifest, notes = estimated_manifest(recipe)
        if recipe.privacy is not None:
            manifest, counted = with_units(recipe, manifest)
            notes += counted
    if callable(rates):
        rates = rates()
    if rates is None:
        rates = assumed_rates(hardware)
        notes.append("This machine was not measured; times are rules of thumb.")
    place = Place(hardware, rates, manifest, elsewhere, layout)
    found = _predicted(recipe, place)
    asked = Asked(
        recipe,
        found.outcome,
        hardware,
        elsewhere if layout == ALONE else None,
        lambda other, there: _predicted(other, replace(place, elsewhere=there or elsewhere)).outcome,
    )
    better = against_waste(asked) if found.outcome.fits else to_fit(asked)
    config = found.config
    writes = _learns_to_write(recipe, config)
    mechanism = _mechanism(found.recipe.replace(**{"train.steps": found.steps}), manifest)
    return Plan(
        parameters=config.parameters,
        train_flops=float(found.tokens * _flops_per_target(config)),
        tokens=found.tokens,
        peak_bytes=found.memory.peak,
        seconds=found.outcome.seconds,
        storage_items=storage_items(config, manifest, found.recipe.train, wanted(recipe.compress)),
        fits=found.outcome.fits,
        better=better,
        items=found.memory.items,
        notes=notes + found.notes,
        price=_price(found.outcome.seconds, elsewhere, hourly_price),
        privacy=None if mechanism is None else stated(mechanism, mechanism.steps),
        noise=None
        if mechanism is None
        else choices(mechanism, config.parameters, found.tokens, writes=writes),
        beyond={
            "scaling": foreseen(config.parameters, found.tokens) if writes and not mechanism else None,
            "time_items": stage_items(found.steps, found.recipe.train, found.costs),
            "exports": export_bytes(config),
            "lora": lora_items(found.recipe, config),
            "host": beside(found.recipe, config, manifest, hardware, elsewhere, found.costs.step),
            "serving": serving(config, hardware, precision_of(found.recipe)),
            "not_modelled": not_modelled(recipe, hardware, elsewhere),
        },
    )


def _learns_to_write(recipe: Recipe, config: TransformerConfig | ImageConfig | RnnConfig) -> bool:
    """Whether it is a language model that learns from nothing: what laws of loss are about."""
    return recipe.model.from_ is None and isinstance(config, TransformerConfig) and config.output == "tokens"


@dataclass(frozen=True)
class Place:
    """Where and on what a recipe would be trained; the names are those of `plan`."""

    hardware: Hardware
    rates: Rates
    manifest: Manifest
    elsewhere: Machines | None
    layout: Layout


@dataclass(frozen=True)
class Prediction:
    """What the formulas say of one recipe in one place.

    Attributes:
        recipe: filled in.
        config: the model.
        steps, tokens: of training.
        costs: seconds of a step and more.
        memory: at its peak.
        outcome: in short.
        notes: what people should know.
    """

    recipe: Recipe
    config: TransformerConfig | ImageConfig | RnnConfig
    steps: int
    tokens: int
    costs: Costs
    memory: Memory
    outcome: Outcome
    notes: list[str]


def _predicted(recipe: Recipe, place: Place) -> Prediction:
    hardware, rates, manifest = place.hardware, place.rates, place.manifest
    elsewhere, layout = place.elsewhere, place.layout
    if layout != ALONE and recipe.train.activation_checkpointing:  # then the layout says it, as others do
        recipe = recipe.replace(**{"train.activation_checkpointing": False})
        layout = replace(layout, recompute=True)
    notes: list[str] = []
    asked = recipe.train.micro_batch
    recipe = fill_in(recipe, manifest, hardware)
    config = _config(recipe, manifest)
    devices = elsewhere.devices if elsewhere else 1
    if isinstance(config, RnnConfig) and elsewhere is not None and elsewhere.accelerator is not None:
        raise MachineError(
            "plan.on-cpus-alone",
            "Recurrent models are trained on one machine's CPUs.",
            where="--on",
            mend="Leave it out, or name cores: cpu:32.",
        )
    share = _share(recipe, devices // layout.model, notes)
    if devices > 1 and asked == "auto":
        share = _filling(
            share, hardware, lambda other: _memory(other, manifest, hardware, elsewhere, layout).peak
        )
    costs = predicted_costs(share, config, manifest, hardware, rates)
    if elsewhere is not None and not isinstance(config, RnnConfig):
        costs = costs_together(costs, config, elsewhere, layout, *_physical(share))
    steps, seconds = _steps_and_seconds(recipe, manifest, costs, rates.measured)
    timed = recipe.train.steps is None and Budget.parse(recipe.train.budget).unit == "seconds"
    if timed and steps == enough_steps(recipe, manifest):
        notes.append(enough_said(steps, recipe.train.budget))
    memory = _memory(share, manifest, hardware, elsewhere, layout)
    fits = not hardware.memory_bytes or memory.peak.high <= hardware.memory_bytes
    batch_size, micro_batch = recipe.train.batch_size, share.train.micro_batch
    assert batch_size != "auto" and micro_batch != "auto"  # fill_in came first
    outcome = Outcome(memory.peak, seconds, fits, batch_size, micro_batch, recipe.train.precision)
    return Prediction(recipe, config, steps, steps * _batch_tokens(recipe), costs, memory, outcome, notes)


def _mechanism(recipe: Recipe, manifest: Manifest) -> Mechanism | None:
    """What each step of private training does; None where it is not private."""
    return None if recipe.privacy is None else mechanism_of(recipe, manifest, INTERVAL)


def _memory(
    recipe: Recipe, manifest: Manifest, hardware: Hardware, elsewhere: Machines | None, layout: Layout
) -> Memory:
    config = _config(recipe, manifest)
    held = None
    if elsewhere is None or isinstance(config, RnnConfig):
        return peak_memory(recipe, config, hardware, manifest)
    if elsewhere.devices > 1 or layout != ALONE:
        held = held_by_each(config, elsewhere, layout, *_physical(recipe))
    return peak_memory(recipe, config, hardware, manifest, held)


def _share(recipe: Recipe, replicas: int, notes: list[str]) -> Recipe:
    """The recipe as one of several replicas of the model sees it: with its share of the batch."""
    batch_size, micro_batch = recipe.train.batch_size, recipe.train.micro_batch
    assert batch_size != "auto" and micro_batch != "auto"  # fill_in came first
    if replicas == 1:
        return recipe
    if batch_size < replicas:
        notes.append(
            f"A step has {batch_size:,} sequences, so {replicas - batch_size:,} of {replicas:,} devices would have nothing to do; "
            "raise train.batch_size."
        )
    each = -(-batch_size // replicas)
    part = max(size for size in divisors(each) if size <= micro_batch)
    return recipe.replace(**{"train.batch_size": each, "train.micro_batch": part})


def _filling(recipe: Recipe, hardware: Hardware, peak: Callable[[Recipe], Interval]) -> Recipe:
    """The recipe with the largest physical batches that fit a device which holds its share of the states alone."""
    batch_size = recipe.train.batch_size
    assert batch_size != "auto"
    for size in reversed(divisors(batch_size)):
        other = recipe.replace(**{"train.micro_batch": size})
        if size * recipe.model.context <= MOST_PHYSICAL_TOKENS and peak(other).high <= hardware.memory_bytes:
            return other
    return recipe


def _physical(recipe: Recipe) -> tuple[int, int]:
    """Physical batches a step, and the tokens of one."""
    batch_size, micro_batch = recipe.train.batch_size, recipe.train.micro_batch
    assert batch_size != "auto" and micro_batch != "auto"
    return batch_size // micro_batch, micro_batch * recipe.model.context


def _price(seconds: Interval, elsewhere: Machines | None, hourly: float | None) -> Price | None:
    """What the training takes in device hours, energy and money; None for this machine without a price."""
    if elsewhere is None and hourly is None:
        return None
    hours = {name: value / 3600 for name, value in seconds.to_json().items()}
    devices = elsewhere.devices if elsewhere else 1
    watts = elsewhere.accelerator.watts if elsewhere and elsewhere.accelerator else None
    return Price(
        device_hours=hours["expected"] * devices,
        energy_kwh=None if watts is None else hours["expected"] * devices * watts * OVERHEAD / 1000,
        hourly=hourly,
        amount=None if hourly is None else {name: value * devices * hourly for name, value in hours.items()},
    )


def _config(recipe: Recipe, manifest: Manifest) -> TransformerConfig | ImageConfig | RnnConfig:
    """The model, with a context as wide as the rows that it will compute: prompts and answers may all be shorter."""
    if recipe.images:
        return config_of(recipe, manifest)
    config = planned_model(recipe.model, manifest.vocab_size, manifest.labels, manifest.output == "spans")
    return replace(config, context=row_width(recipe, manifest)) if manifest.prompted else config


def _flops_per_target(config: TransformerConfig | ImageConfig | RnnConfig) -> int:
    """Operations for one token, or for one image."""
    if isinstance(config, ImageConfig):
        return train_flops_per_image(config)
    if isinstance(config, RnnConfig):
        return flops_per_token(config)
    return train_flops_per_token(config)


def _steps_and_seconds(
    recipe: Recipe, manifest: Manifest, costs: Costs, measured: bool
) -> tuple[int, Interval]:
    """Optimizer steps and the time they take; a time budget is the time, and gives the steps."""
    train, budget = recipe.train, Budget.parse(recipe.train.budget)
    spread = MEASURED_SPREAD if measured else ASSUMED_SPREAD
    if train.steps is None and budget.unit == "seconds":
        enough = enough_steps(recipe, manifest)
        steps = steps_within(budget.amount, train, costs, enough)
        expected = min(budget.amount, stage_seconds(enough, train, costs))
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
