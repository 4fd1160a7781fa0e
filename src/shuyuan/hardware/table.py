"""The table of accelerators: what comes with Shuyuan, and what a user adds in a file of their own. Every slip is named."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import MachineError, reason

FLOPS = ("fp32", "bf16", "fp16")
PRODUCTS = 0.75
# The largest that a number can be: far above any card there is, so that a wrong unit is found.
MOST = {
    "memory_gb": 1e5, "fp32": 1e6, "bf16": 1e6, "fp16": 1e6, "memory_gb_s": 1e6, "link_gb_s": 1e5, "watts": 1e5,
    "products": 1.0,
}  # fmt: skip
NEEDED = ("name", "memory_gb", "fp32", "memory_gb_s", "link_gb_s", "watts")
LONGEST_NAME = 100


@dataclass(frozen=True)
class Accelerator:
    """One entry of the table.

    Attributes:
        key: its name in `--on`.
        name: its maker's name.
        memory_bytes: on the card.
        flops: dense peak operations a second for each precision that it has.
        memory_bytes_per_second: to its own memory.
        link_bytes_per_second: to the other cards of its node, one way.
        watts: at full load.
        products: the share of the peak that large matrix products reach.
    """

    key: str
    name: str
    memory_bytes: int
    flops: dict[str, float]
    memory_bytes_per_second: float
    link_bytes_per_second: float
    watts: float
    products: float = PRODUCTS


def accelerators() -> dict[str, Accelerator]:
    """All entries, the user's own last.

    Raises:
        MachineError: the user's file is not one; names the entry and the key.
    """
    found = _read(resources.files(__package__).joinpath("catalog.toml").read_text("utf-8"), "catalog.toml")
    own = own_file()
    if own.exists():
        try:
            text = own.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise _refused(str(own), f"the file cannot be read ({reason(error)})") from None
        found |= _read(text, str(own))
    return found


def own_file() -> Path:
    """Where a user's own entries stand: $XDG_CONFIG_HOME/shuyuan/hardware.toml, or ~/.config/shuyuan/hardware.toml."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "shuyuan" / "hardware.toml"


def _read(text: str, where: str) -> dict[str, Accelerator]:
    try:
        tables = tomllib.loads(text)
    except ValueError as error:  # tomllib's own, or Python's of a number of thousands of digits
        raise _refused(where, f"it is not TOML: {error}") from None
    return {key: _entry(key, table, where) for key, table in tables.items()}


def _entry(key: str, table: Any, where: str) -> Accelerator:
    if not isinstance(table, Mapping):
        raise _refused(where, f"{_short(key)} is no table; write [name-of-the-card] above its lines")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", key) or key == "cpu":
        raise _refused(
            where, f"[{_short(key)}] is no name that --on could have: small letters, digits, dots and dashes"
        )
    allowed = ("name", *MOST)
    for name in table:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(allowed)}"
            raise _refused(where, f"[{key}] has an unknown key {_short(name)}; {hint}")
    for name in NEEDED:
        if name not in table:
            raise _refused(where, f"[{key}] lacks {name}")
    if not ("bf16" in table or "fp16" in table):
        raise _refused(where, f"[{key}] lacks bf16 or fp16, the rate of half precision")
    title = table["name"]
    if not isinstance(title, str) or not title.isprintable() or not 0 < len(title) <= LONGEST_NAME:
        raise _refused(where, f"[{key}] name must be a text of 1 to {LONGEST_NAME} characters")
    numbers = {name: _number(key, name, value, where) for name, value in table.items() if name != "name"}
    return Accelerator(
        key,
        title,
        round(numbers["memory_gb"] * 1e9),
        {name: numbers[name] * 1e12 for name in FLOPS if name in numbers},
        numbers["memory_gb_s"] * 1e9,
        numbers["link_gb_s"] * 1e9,
        numbers["watts"],
        numbers.get("products", PRODUCTS),
    )


def _number(key: str, name: str, value: Any, where: str) -> float:
    sound = isinstance(value, int | float) and not isinstance(value, bool)
    if not sound or not 0 < value <= MOST[name]:  # nor is NaN
        raise _refused(
            where, f"[{key}] {name} = {_short(value)} is no number above 0 and at most {MOST[name]:g}"
        )
    return float(value)


def _short(value: Any) -> str:
    return repr(value)[:40] if not isinstance(value, str) or not value.isprintable() else value[:40]


def _refused(where: str, what: str) -> MachineError:
    return MachineError(
        "machine.bad-catalog",
        f"The table of hardware is refused: {what}.",
        where=where,
        mend="An entry has name, memory_gb, fp32, bf16 or fp16 or both, memory_gb_s, link_gb_s and watts; docs/planning.md shows one.",
    )
