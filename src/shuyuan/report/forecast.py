"""What was predicted beside what then happened: the rows of the plan's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import wording
from .facts import Facts, trained_so_far


@dataclass(frozen=True)
class Compared:
    """A prediction of the plan beside what then happened."""

    label: str
    expected: str
    band: str
    measured: str
    off: str
    bar: dict[str, float] | None  # low, width, expected and measured, as shares of the bar in percent


def plan_rows(facts: Facts) -> list[Compared]:
    """Predicted beside measured, one row a quantity."""
    plan, measured, done = facts.plan, facts.measured, trained_so_far(facts)
    rows = [
        compared("Peak memory", plan.get("peak_bytes"), measured.get("peak_bytes"), wording.size),
        compared("Training time", plan.get("seconds"), measured.get("seconds"), wording.duration),
        compared("Storage", plan.get("storage_bytes"), measured.get("storage_bytes"), wording.size),
        compared(
            "Parameters", plan.get("parameters"), facts.last("train.start").get("parameters"), wording.count
        ),
        compared(
            "Tokens to train on", plan.get("tokens"), done["tokens"] if facts.trained else None, wording.count
        ),
        compared("Floating point operations", plan.get("train_flops"), None, wording.flops),
    ]
    return [row for row in rows if row is not None]


def compared(label: str, predicted: Any, measured: Any, form: Any) -> Compared | None:
    """One row; `predicted` is a number or {low, expected, high}. None if nothing was predicted."""
    interval: Mapping[str, Any] = predicted if isinstance(predicted, Mapping) else {"expected": predicted}
    expected = interval.get("expected")
    if not wording.is_number(expected):
        return None
    low, high = interval.get("low"), interval.get("high")
    band, bar = "", None
    if wording.is_number(low) and wording.is_number(high):
        band, bar = f"{form(low)} to {form(high)}", _bar(low, expected, high, measured)
    return Compared(label, form(expected), band, form(measured), _difference(expected, measured), bar)


def _difference(expected: float, measured: Any) -> str:
    """How far off the prediction was: exact, within 1 %, +4 %, 3.1 times."""
    if not wording.is_number(measured) or not expected:
        return ""
    ratio = measured / expected
    if ratio >= 2:
        return f"{ratio:.0f} times" if ratio >= 10 else f"{ratio:.1f} times"
    share = round(100 * (ratio - 1))
    if share:
        return f"{share:+d} %".replace("-", "−")
    return "exact" if measured == expected else "within 1 %"


def _bar(low: float, expected: float, high: float, measured: Any) -> dict[str, float]:
    known = {"low": low, "expected": expected, "width": high - low}
    if wording.is_number(measured):
        known["measured"] = measured
    top = max(high, *known.values()) * 1.08 or 1
    return {name: round(100 * max(0, value) / top, 1) for name, value in known.items()}


def memory_parts(facts: Facts) -> list[tuple[str, str]]:
    """The predicted peak memory by part."""
    items = facts.plan.get("items")
    if not isinstance(items, Mapping):
        return []
    return [(str(name), wording.size(part)) for name, part in items.items() if wording.is_number(part)]


NOISE_COLUMNS = ("epsilon", "noise_multiplier", "batch_size", "steps", "noise_to_batch")


def noise_rows(facts: Facts) -> dict[str, Any] | None:
    """What other ε, batches and steps would need of noise: {headings, rows, notes}; None where the plan says nothing of it."""
    noise = facts.plan.get("noise")
    table = noise.get("table") if isinstance(noise, Mapping) else None
    if not isinstance(noise, Mapping) or not isinstance(table, list):
        return None
    kept = [
        row
        for row in table
        if isinstance(row, Mapping) and all(wording.is_number(row.get(key)) for key in NOISE_COLUMNS)
    ]
    if not kept:
        return None
    forms: tuple[Any, ...] = ("{:.3g}".format, "{:.3g}".format, wording.count, wording.count, "{:.3g}".format)
    rows = [[form(row[key]) for key, form in zip(NOISE_COLUMNS, forms, strict=True)] for row in kept]
    rules = noise.get("rules")
    notes = [str(line) for line in rules] if isinstance(rules, list) else []
    headings = ("ε", "Noise multiplier", "Units a step", "Steps", "Noise / batch")
    return {"headings": headings, "rows": rows, "notes": notes + size_lines(noise.get("size"))}


def size_lines(size: Any) -> list[str]:
    """What the rules of McKenna et al. say of the size of a private language model.

    Args:
        size: `noise.size` of the plan, as it was read from a file.

    Returns:
        One line; none where the plan does not say it.
    """
    if not isinstance(size, Mapping) or not all(
        wording.is_number(size.get(key)) for key in ("best_at_most", "tokens_a_parameter")
    ):
        return []
    between = size.get("best_between")
    usual = ""
    if isinstance(between, list) and len(between) == 2 and all(map(wording.is_number, between)):
        usual = f", and {between[0]:,} to {between[1]:,} by a rule for ε from 1 to 10"
    return [
        f"At the same work the best private model is at least ten times smaller than the best without privacy: {size['best_at_most']:,} "
        f"parameters at most{usual} (McKenna et al. 2025). This plan has {size['tokens_a_parameter']:,.3g} tokens for each parameter."
    ]


def remarks(facts: Facts) -> list[str]:
    """What the plan guessed from what, and what it advised."""
    lines = (facts.plan.get(name) for name in ("notes", "advice"))
    return [str(line) for some in lines if isinstance(some, list) for line in some]
