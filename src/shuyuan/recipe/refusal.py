"""What pydantic complains of, in our words: the key, what is allowed, the nearest right spelling."""

from __future__ import annotations

import difflib
import re
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import RecipeError
from .keys import describe, rows_of, section_at


def refusal(error: ValidationError, whole: type[BaseModel], where: str) -> RecipeError:
    """The first of pydantic's complaints about a whole recipe, in our words."""
    # A misspelt key is also a missing one: the misspelling is what the user wants to hear of.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"] if not _is_union_tag(str(part))]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        return _unknown_key(path, whole, where)
    if first["type"] == "missing":
        return RecipeError(
            "recipe.missing-key", f"`{key}` is needed.", where=where, mend=f"Add it: {describe(whole, path)}"
        )
    reason = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "literal_error":
        return _wrong_word(key, first, describe(whole, path), where)
    if first["type"] == "value_error":
        inner, sign, rest = reason.partition(": ")
        if sign and " " not in inner:  # raised by a whole table: the validator names the key in it
            key, reason = f"{key}.{inner}" if key else inner, rest
        return RecipeError(
            "recipe.bad-value",
            f"`{key}` {reason}.",
            where=where,
            mend=f"Change `{key}`. {describe(whole, key.split('.'))}".rstrip(),
        )
    reason = reason[0].lower() + reason[1:]
    if first["type"] in ("model_type", "dict_type"):
        reason = "it is a table, with keys of its own"
    if first["type"] == "string_pattern_mismatch":
        reason = "it has a character that may not stand there, or too many"
    given = repr(first["input"])[:80]
    return RecipeError(
        "recipe.wrong-type",
        f"`{key}` = {given} is refused: {reason}.",
        where=where,
        mend=describe(whole, path) or "Change it.",
    )


def _is_union_tag(part: str) -> bool:
    return part in ("str", "int", "float", "list[str]", "none") or part.startswith(
        ("literal[", "list[", "constrained")
    )


def _unknown_key(path: list[str], whole: type[BaseModel], where: str) -> RecipeError:
    *table, last = path
    section = section_at(whole, table)
    allowed = [field.alias or name for name, field in section.model_fields.items()] if section else []
    near = difflib.get_close_matches(last, allowed, n=1)
    everywhere = [key for key, *_ in rows_of(whole) if key.split(".")[-1] == last]
    if near:
        mend = f"Did you mean `{'.'.join([*table, near[0]])}`?"
    elif everywhere:
        mend = f"Did you mean `{everywhere[0]}`?"
    else:
        mend = f"Allowed here: {', '.join(allowed)}."
    return RecipeError(
        "recipe.unknown-key", f"`{'.'.join(path)}` is not a key of a recipe.", where=where, mend=mend
    )


def _wrong_word(key: str, first: Any, description: str, where: str) -> RecipeError:
    allowed = re.findall(r"'([^']*)'", str(first["ctx"]["expected"]))
    given = first["input"]
    near = difflib.get_close_matches(given, allowed, n=1) if isinstance(given, str) else []
    mend = f'Did you mean "{near[0]}"? ' if near else ""
    return RecipeError(
        "recipe.bad-value",
        f"`{key}` = {given!r} is not one of: {', '.join(allowed)}.",
        where=where,
        mend=mend + description,
    )
