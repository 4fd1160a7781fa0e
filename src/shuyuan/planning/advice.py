"""What to change when a run does not fit, or wastes what it has: the nearest settings that are better, each with its figures.

Settings that change nothing of the result come first, then those that change little: smaller physical batches, activation
checkpointing, half precision, more devices to share the states, LoRA beside a model to start from, a base of codes under it, a shorter
context, a smaller model. Only what training can do is advised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import ShuyuanError
from ..hardware import Hardware, Machines, choose_precision, machines
from ..recipe import NGRAM_SIZES, RNN_SIZES, SIZES, Recipe, check
from ..sizes import size
from ..train.resolve import divisors
from .memory import Interval
from .rewrite import spelled_value

SHAPE = ("layers", "width", "heads", "kv_heads", "hidden")  # what a named size says
LEAST_CONTEXT, LORA_RANK = 64, 16
MOST_NODES = 64  # beyond, somebody should think first
# Shares that a change must save where a run fits: of the time, of the device hours.
WORTH_TIME, WORTH_HOURS = 0.1, 0.2
ABOUT = 1.02  # times as long is as fast
SAME = "the result stays the same"


@dataclass(frozen=True)
class Outcome:
    """What a recipe would take.

    Attributes:
        peak, seconds: predicted.
        fits: whether the high end of the memory is there.
        batch_size, micro_batch: as they are filled in.
        precision: likewise.
    """

    peak: Interval
    seconds: Interval
    fits: bool
    batch_size: int
    micro_batch: int
    precision: str


@dataclass(frozen=True)
class Advice:
    """One way to a better plan, with what is predicted for it.

    Attributes:
        change: keys of the recipe and their values; None takes a key out.
        outcome: of the recipe so changed.
        effect: what else becomes different.
        on: other machines, as `--on` takes them, instead of a change.
    """

    change: dict[str, Any]
    outcome: Outcome
    effect: str
    on: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As `better` of `shuyuan plan --json` has it."""
        peak, seconds = self.outcome.peak, self.outcome.seconds
        return {
            "change": self.change,
            "on": self.on,
            "fits": self.outcome.fits,
            "peak_bytes": {name: round(number) for name, number in peak.to_json().items()},
            "seconds": seconds.to_json(),
            "effect": self.effect,
        }

    def sentence(self) -> str:
        """For people."""
        peak = self.outcome.peak
        verb = "brings" if self.outcome.fits else "still takes"
        what = "the peak to " if self.outcome.fits else ""
        return (
            f"{self.on or spelled(self.change) or 'This recipe'} {verb} {what}{size(peak.expected)} (at most {size(peak.high)}), "
            f"and training takes {_time(self.outcome.seconds.expected)}; {self.effect}."
        )


@dataclass(frozen=True)
class Asked:
    """What advice is wanted for.

    Attributes:
        recipe: as it was asked for.
        outcome: what it would take.
        hardware: one device.
        elsewhere: other machines than this one.
        predict: of a changed recipe, on other machines if some are given.
    """

    recipe: Recipe
    outcome: Outcome
    hardware: Hardware
    elsewhere: Machines | None
    predict: Callable[[Recipe, Machines | None], Outcome]


@dataclass(frozen=True)
class Option:
    """A setting to try, or machines."""

    change: dict[str, Any]
    effect: str
    machines: Machines | None = field(default=None)
    on: str | None = None


def to_fit(asked: Asked) -> list[Advice]:
    """Of each kind of setting the value nearest to what was asked that makes the run fit.

    Returns:
        At least one. Where no single setting is enough, several together; and where those are not, how far away the smallest is.
    """
    kinds = (_micro_batches, _checkpointing, _precisions, _devices, _loras, _bases, _contexts, _sizes)
    found = [nearest for kind in kinds if (nearest := _first_fitting(asked, kind(asked)))]
    return found or [_together(asked)]


def against_waste(asked: Asked) -> list[Advice]:
    """What would save a tenth of the time with the same records learned, or a fifth of the device hours."""
    found = []
    sooner = (1 - WORTH_TIME) * asked.outcome.seconds.expected
    if asked.recipe.train.micro_batch != "auto":  # "auto" is the largest that is safe
        found += [
            advice for advice in (_fuller(asked),) if advice and advice.outcome.seconds.expected <= sooner
        ]
    for option in (*_keeping_activations(asked), *_precisions(asked)):
        advice = _tried(asked, option)
        if advice and advice.outcome.fits and advice.outcome.seconds.expected <= sooner:
            found.append(advice)
    fewer = _fewer_devices(asked)
    return [*found, fewer] if fewer else found


# ---- trying ----------------------------------------------------------------------------------------------------------


def _first_fitting(asked: Asked, options: Iterator[Option]) -> Advice | None:
    for option in options:
        advice = _tried(asked, option)
        if advice and advice.outcome.fits:
            return advice
    return None


def _tried(asked: Asked, option: Option) -> Advice | None:
    """The option with its figures; None where the recipe refuses it."""
    try:
        outcome = asked.predict(changed(asked.recipe, option.change), option.machines)
    except ShuyuanError:
        return None
    return Advice(option.change, outcome, option.effect, option.on)


def _together(asked: Asked) -> Advice:
    """Setting after setting, each at its end, until all together fit."""
    change: dict[str, Any] = {}
    effects: tuple[str, ...] = ()
    advice = None
    for kind in (_micro_batches, _checkpointing, _precisions, _loras, _bases, _contexts, _sizes):
        options = list(kind(asked))
        for option in options[-1:] if kind is _micro_batches else options:
            others = tuple(dict.fromkeys((*effects, option.effect)))
            tried = _tried(asked, Option(change | option.change, "; ".join(others)))
            if tried and tried.outcome.fits:
                return tried
            advice = tried or advice
        if advice and options:
            change, effects = (
                advice.change,
                (*effects, options[-1].effect) if options[-1].effect != SAME else effects,
            )
    return advice or Advice({}, asked.outcome, "nothing that could be changed takes less")


def _fuller(asked: Asked) -> Advice | None:
    """The smallest physical batch above the one asked for that is about as fast as any."""
    tried = [_tried(asked, option) for option in _larger_micro_batches(asked)]
    fitting = [advice for advice in tried if advice and advice.outcome.fits]
    least = min((advice.outcome.seconds.expected for advice in fitting), default=0.0)
    return next((each for each in fitting if each.outcome.seconds.expected <= ABOUT * least), None)


def _fewer_devices(asked: Asked) -> Advice | None:
    """Half of the devices, and half of these, as long as each halving saves device hours and the run fits."""
    here, best = asked.elsewhere, None
    if here is None or here.accelerator is None:
        return None
    hours = here.devices * asked.outcome.seconds.expected
    count = here.devices // 2
    while count >= 1 and here.devices % count == 0:
        option = _on(here.accelerator.key, count, here.each, "fewer device hours, in a longer time")
        advice = _tried(asked, option)
        if advice is None or not advice.outcome.fits:
            break
        taken = count * advice.outcome.seconds.expected
        if taken > (1 - WORTH_HOURS) * hours:
            break
        hours, best = taken, advice
        count //= 2
    return best


# ---- what could be changed -------------------------------------------------------------------------------------------


def _micro_batches(asked: Asked) -> Iterator[Option]:
    """Smaller divisors of the batch, the largest first: the result stays the same, only slower."""
    for count in reversed(divisors(asked.outcome.batch_size)):
        if count < asked.outcome.micro_batch:
            yield Option({"train.micro_batch": count}, SAME)


def _larger_micro_batches(asked: Asked) -> Iterator[Option]:
    for count in divisors(asked.outcome.batch_size):
        if count > asked.outcome.micro_batch:
            yield Option({"train.micro_batch": count}, SAME)


def _checkpointing(asked: Asked) -> Iterator[Option]:
    recipe = asked.recipe
    if recipe.model.family == "transformer" and not recipe.train.activation_checkpointing:
        yield Option(
            {"train.activation_checkpointing": True}, "each block is computed twice, to the same bits"
        )


def _keeping_activations(asked: Asked) -> Iterator[Option]:
    if asked.recipe.train.activation_checkpointing:
        yield Option({"train.activation_checkpointing": None}, SAME)


def _precisions(asked: Asked) -> Iterator[Option]:
    """The half precision that the hardware is fast in; private training knows no fp16."""
    best = choose_precision("auto", asked.hardware)
    if asked.outcome.precision == "fp32" and best != "fp32" and not (asked.recipe.privacy and best == "fp16"):
        yield Option({"train.precision": best}, "products are computed in half precision, as is usual")


def _devices(asked: Asked) -> Iterator[Option]:
    """More of the same: first up to eight in a machine, then more machines; each device holds its share of the states."""
    here = asked.elsewhere
    if here is None or here.accelerator is None:
        return
    each, nodes = here.each, here.nodes
    while each * nodes < 8 * MOST_NODES:
        each, nodes = (each * 2, nodes) if nodes == 1 and each <= 4 else (each, nodes * 2)
        yield _on(here.accelerator.key, each * nodes, each, "states are sharded over all devices")


def _on(key: str, devices: int, each: int, effect: str) -> Option:
    text = f"{key}:{devices}" if devices <= each else f"{key}:{devices // each}x{each}"
    return Option({}, effect, machines(text), f"--on {text}")


def _loras(asked: Asked) -> Iterator[Option]:
    recipe = asked.recipe
    if recipe.model.from_ is not None and recipe.model.family == "transformer" and recipe.train.lora is None:
        yield Option({"train.lora": {"rank": LORA_RANK}}, "small matrices learn beside the model's own")


def _bases(asked: Asked) -> Iterator[Option]:
    """Fewer bits for the model under LoRA; it is rounded, and the run's model with it."""
    recipe, lora = asked.recipe, asked.recipe.train.lora
    if recipe.model.from_ is None or recipe.model.family != "transformer":
        return
    given = (
        {"rank": LORA_RANK} if lora is None else {"rank": lora.rank} | lora.model_dump(exclude_defaults=True)
    )
    for base in ("int8", "int4"):
        if lora is None or lora.bits is None or int(base.removeprefix("int")) < lora.bits:
            effect = f"small matrices learn beside the model's own, which are rounded to {base}"
            yield Option({"train.lora": given | {"base": base}}, effect)


def _contexts(asked: Asked) -> Iterator[Option]:
    context = asked.recipe.model.context // 2
    while context >= LEAST_CONTEXT and not asked.recipe.images:
        yield Option({"model.context": context}, "the model sees less of a text at once")
        context //= 2


def _sizes(asked: Asked) -> Iterator[Option]:
    """Named sizes below the one asked for, the largest first; a named size replaces all that the recipe says of the shape."""
    model = asked.recipe.model
    if model.from_ is not None:
        return
    given = {f"model.{key}": None for key in SHAPE if getattr(model, key) is not None}
    for name in _smaller(asked.recipe):
        yield Option({"model.size": name} | given, "a smaller model learns less")


def _smaller(recipe: Recipe) -> list[str]:
    model = recipe.model
    if recipe.images:
        return ["small"] if model.size != "small" else []
    if model.family == "ngrams":
        here, numbers = NGRAM_SIZES[model.size], NGRAM_SIZES
    else:
        asked, sizes = model.shape(), RNN_SIZES if model.family == "rnn" else SIZES
        here = asked["layers"] * asked["width"] ** 2
        numbers = {name: layers * width**2 for name, (layers, width) in sizes.items()}
    return sorted((name for name in numbers if numbers[name] < here), key=lambda name: -numbers[name])


# ---- changing and saying ---------------------------------------------------------------------------------------------


def changed(recipe: Recipe, change: dict[str, Any]) -> Recipe:
    """The recipe with a change, where None takes a key out.

    Raises:
        RecipeError: the two do not go together.
    """
    table = recipe.model_dump(by_alias=True, exclude_none=True)
    for key, value in change.items():
        *path, last = key.split(".")
        inner = table
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
        if value is None:
            del inner[last]
    return check(table, where="recipe")


def spelled(change: dict[str, Any]) -> str:
    """A change as a recipe has it."""
    parts = [f"{key} = {spelled_value(value)}" for key, value in change.items() if value is not None]
    gone = [key for key, value in change.items() if value is None]
    return " with ".join(parts) + (f" (without {', '.join(gone)})" if gone else "")


def _time(seconds: float) -> str:
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{seconds:.3g} s"
