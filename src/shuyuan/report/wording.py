"""How figures are written for people: units and rounding."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

from .. import sizes

UNKNOWN = "–"
_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value read from a file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def count(value: Any) -> str:
    """A whole number with its thousands set apart: 12,345."""
    return f"{round(value):,}" if is_number(value) else UNKNOWN


def rounded(value: Any) -> str:
    """A large number in words: 5.3 million."""
    if not is_number(value):
        return UNKNOWN
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(value) >= size:
            return f"{value / size:.3g} {word}"
    return count(value)


def percent(share: Any) -> str:
    """A share as a percentage with one decimal."""
    return f"{share:.1%}" if is_number(share) else UNKNOWN


def nats(value: Any) -> str:
    """A loss: 3.141."""
    return f"{value:.3f}" if is_number(value) else UNKNOWN


def size(value: Any) -> str:
    """Bytes: 1.2 GB."""
    return sizes.size(value) if is_number(value) else UNKNOWN


def duration(value: Any) -> str:
    """Seconds as people say them: 45 s, 2 min 5 s, 3 h 10 min, 4 d 2 h."""
    if not is_number(value) or value < 0:
        return UNKNOWN
    if value < 10:
        return f"{value:.2g} s" if value else "0 s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [
        f"{amount} {unit}"
        for amount, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
        if amount
    ]
    return " ".join(parts[:2])


def flops(value: Any) -> str:
    """Floating point operations: 3.1 × 10¹⁵."""
    if not is_number(value) or value <= 0:
        return UNKNOWN
    digits, power = f"{value:.2e}".split("e")
    return f"{digits} × 10{str(int(power)).translate(_RAISED)}"


def upper(value: float) -> str:
    """An upper bound in three digits, rounded up, so that no promise reads stronger than it is: 0.538, 1.43 × 10⁻⁶.

    Args:
        value: ε or δ; infinite, or not a number, is told as ∞.
    """
    if value <= 0:
        return "0"
    if not math.isfinite(value):
        return "∞"
    digits = 2 - math.floor(math.log10(value))
    rounded_up = math.ceil(round(value * 10**digits, 9)) / 10**digits
    if rounded_up >= 1e-3:
        return f"{rounded_up:.3g}"
    factor, power = f"{rounded_up:.2e}".split("e")
    ten = f"10{str(int(power)).translate(_RAISED)}"
    return ten if float(factor) == 1 else f"{float(factor):g} × {ten}"
