"""Nested tables, as TOML gives them, and dotted keys into them."""

from __future__ import annotations

from typing import Any

from ..errors import RecipeError


def get(table: dict[str, Any], key: str) -> Any:
    """What stands at a dotted key; None where nothing does."""
    here: Any = table
    for part in key.split("."):
        if not isinstance(here, dict) or part not in here:
            return None
        here = here[part]
    return here


def put(table: dict[str, Any], key: str, value: Any) -> None:
    """Puts a value at a dotted key, and makes the tables on the way.

    Raises:
        RecipeError: what is on the way is no table.
    """
    *path, last = key.split(".")
    for part in path:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RecipeError(
                "recipe.bad-change", f"`{part}` is not a table.", where=key, mend="Check the key."
            )
        table = inner
    table[last] = value


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A copy of `under` with what `over` says laid over it, table by table."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value by its dotted key."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return values
