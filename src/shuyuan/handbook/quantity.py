"""Numbers as people write them, in English and Chinese, with units: "0.7 million GPU-hours", "70 万卡时", "2.45 TB"."""

from __future__ import annotations

import ast
import math
import operator
import re
import unicodedata
from typing import Any, Literal

Language = Literal["en", "zh"]

# What one unit is worth in the base unit of its dimension. Keys are written as `_spoken` leaves them: casefolded, no
# spaces, hyphens or device names, so "A100-hours", "GPU hours" and "卡时" are all hours.
UNITS: dict[str, dict[str, float]] = {
    "time": {
        **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "秒"), 1 / 3600),
        **dict.fromkeys(("min", "minute", "minutes", "分钟"), 1 / 60),
        **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "小时", "时", "个小时"), 1.0),
        **dict.fromkeys(("d", "day", "days", "天", "日"), 24.0),
        **dict.fromkeys(("week", "weeks", "周"), 168.0),
        **dict.fromkeys(("yr", "yrs", "year", "years", "年"), 8766.0),
    },
    "bytes": {
        **dict.fromkeys(("b", "byte", "bytes", "字节"), 1.0),
        **{f"{letter}{b}": 1000.0**n for n, letter in enumerate("kmgtp", 1) for b in ("b", "bytes")},
        **{f"{letter}ib": 1024.0**n for n, letter in enumerate("kmgtp", 1)},
    },
    "operations": {
        **dict.fromkeys(("flop", "flops", "operations", "次", "次运算", "次浮点运算", "浮点运算"), 1.0),
        **{f"{letter}flop{s}": 1000.0**n for n, letter in enumerate("kmgtpezy", 1) for s in ("", "s")},
        **dict.fromkeys(("pfdays", "pfday", "pflop/sdays", "pflopsdays", "petaflop/sdays"), 8.64e19),
    },
}
# The units in which a question may ask, and what each is in its dimension.
ASKED = {
    "hours": ("time", 1.0), "days": ("time", 24.0), "bytes": ("bytes", 1.0), "FLOP": ("operations", 1.0)
}  # fmt: skip
SCALES = {
    "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12, "mn": 1e6, "bn": 1e9,
    "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12,
    "万亿": 1e12, "千亿": 1e11, "百亿": 1e10, "十亿": 1e9, "亿": 1e8, "千万": 1e7, "百万": 1e6, "十万": 1e5, "万": 1e4, "千": 1e3,
    "w": 1e4,  # 70w, as people type 70 万
}  # fmt: skip

_ABOUT = re.compile(r"^(?:about|approximately|approx\.?|roughly|around|circa|ca\.|约|大约|大概|[~≈=])\s*")
_NUMBER = re.compile(
    r"^([+-]?(?:\d{1,3}(?:([, _])\d{3}(?:\2\d{3})*)(?!\d)|\d+)(?:\.\d+)?|[+-]?\.\d+)"  # 700,000 or 700 000 or 0.7
    r"(?:e([+-]?\d+))?"
    r"(?:\s*(?:[x×*·]|\\times)\s*10\s*(?:\^|\*\*)\s*([+-]?\d+))?"
)
_POWER = re.compile(r"^10\s*(?:\^|\*\*)\s*([+-]?\d+)")
_DEVICES = re.compile(r"[avh]\d+|gpus?|cpus?|cores?|核|卡|块|个")
_FROM_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_TO_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_OPERATORS: dict[type[ast.operator], Any] = {
    ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow, ast.Add: operator.add
}  # fmt: skip


class UnreadableError(ValueError):
    """A number that cannot be read; `why` names the reason: number, unit or finite."""

    def __init__(self, why: Literal["number", "unit", "finite"], text: str) -> None:
        super().__init__(text)
        self.why = why
        self.text = text


def read(text: str, unit: str) -> float:
    """Reads a number as a person writes it.

    Args:
        text: "0.7e6", "700,000", "0.7 million", "70万", "3.1×10⁶ hours", "2.45 TB", or a working such as
            "3.14e23 / (0.4 * 312e12) / 3600" (no subtraction, so that "700-800" is not taken for one).
        unit: the unit asked for, a key of `ASKED`; a bare number is taken to be in it, another unit is converted.

    Raises:
        UnreadableError: not a number, not finite, or in a unit of another kind.
    """
    plain = _spelt_plainly(text)
    if re.match(r"[+-]?(nan|inf|∞|无穷)", plain):
        raise UnreadableError("finite", text)
    if power := _POWER.match(plain):
        value, end = _times_power(1.0, power[1]), power.end()
    elif number := _NUMBER.match(plain):
        value, end = _times_power(float(re.sub(r"[, _]", "", number[1])), number[3], number[4]), number.end()
    else:
        return arithmetic(plain)
    try:
        value *= _factor(plain[end:], unit, text)
    except UnreadableError as unreadable:
        if unreadable.why == "unit":
            raise
        value = arithmetic(plain)
    if not math.isfinite(value):
        raise UnreadableError("finite", text)
    return value


def arithmetic(working: str) -> float:
    """The value of a working such as `3.14e23 / (0.4 * 312e12) / 3600`: numbers, `* / ** +` and brackets.

    Raises:
        UnreadableError: anything else stands in it, or the value is not finite.
    """
    try:
        if len(working) > 200:
            raise ValueError
        value = _evaluate(ast.parse(working.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        raise UnreadableError("number", working) from None
    if not math.isfinite(value):
        raise UnreadableError("finite", working)
    return value


def write(value: float, language: Language, digits: int = 3, *, unit: str = "") -> str:
    """A number for people: 699,000, 3.12 million, 69.9 万, 3.15 × 10²³, and bytes as 2.45 TB.

    Args:
        value: finite.
        language: English counts in millions, Chinese in 万 and 亿.
        digits: significant figures.
        unit: "bytes" is written with its prefix; every other unit is the caller's to add.
    """
    if value == 0:
        return "0"
    value = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(value)))
    if unit == "bytes":
        steps = [(1000.0**n, f" {letter}B") for n, letter in reversed(list(enumerate("kMGTP", 1)))] + [
            (1.0, " B")
        ]
    elif not -4 <= exponent < 15:
        return f"{value / 10.0**exponent:.{digits - 1}f} × 10{str(exponent).translate(_TO_RAISED)}"
    elif language == "zh":
        steps = [(1e12, " 万亿"), (1e8, " 亿"), (1e4, " 万")]
    else:
        steps = [(1e12, " trillion"), (1e9, " billion"), (1e6, " million")]
    for size, word in steps:
        if abs(value) >= size:
            return _decimal(value / size, digits) + word
    return _decimal(value, digits)


def _decimal(value: float, digits: int) -> str:
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def _spelt_plainly(text: str) -> str:
    """One way of writing: no full-width forms, raised digits as powers, lower case, no "about" in front."""
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+", lambda found: "^" + found[0].translate(_FROM_RAISED), text)
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return _ABOUT.sub("", text).strip()


def _times_power(value: float, *powers: str | None) -> float:
    for power in powers:
        if power is not None:
            if len(power) > 4:
                raise UnreadableError("finite", power)
            value = float(f"{value!r}e{int(power)}") if "e" not in repr(value) else value * 10.0 ** int(power)
    return value


def _factor(rest: str, unit: str, text: str) -> float:
    """What the words after the number multiply it by, in the unit asked for."""
    dimension, size = ASKED[unit]
    words = _spoken(rest)
    for scale in ("", *sorted(SCALES, key=len, reverse=True)):
        name = words.removeprefix(scale)
        if not words.startswith(scale) or (not name and scale != words):
            continue
        times = SCALES.get(scale, 1.0)
        if not name:
            return times
        if name in UNITS[dimension]:
            return times * UNITS[dimension][name] / size
        if any(name in others for others in UNITS.values()):
            raise UnreadableError("unit", text)
    raise UnreadableError("number", text)


def _spoken(rest: str) -> str:
    """The words after a number without spaces, hyphens and the names of devices."""
    return re.sub(r"[\s·.-]|的|of", "", _DEVICES.sub("", rest))


def _evaluate(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value is not True:
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        value = _OPERATORS[type(node.op)](_evaluate(node.left), _evaluate(node.right))
        if isinstance(value, complex):
            raise ValueError
        return float(value)
    raise ValueError
