"""Recipes from files and from tables, with changes laid over them and paths made absolute."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from ..errors import RecipeError, cannot_read, reason
from .names import BUILT_IN_SOURCES
from .tables import get, merge, put
from .whole import Recipe, check


def load(path: str | Path, changes: list[str] | None = None, folder: Path | None = None) -> Recipe:
    """Reads a recipe file, with `KEY=VALUE` changes laid over it; relative paths are made absolute.

    Args:
        path: the TOML file.
        folder: where its paths start; left out, in its own folder.
        changes: as given to `--set`, for example `train.budget="5M tokens"`; paths start at the current folder.

    Raises:
        RecipeError: the file is missing or not TOML, or a key or value is refused.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(
            "recipe.missing", "There is no such recipe or run.", where=str(path), mend="Check the path."
        ) from None
    except PermissionError as error:
        raise cannot_read(error, path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            "recipe.unreadable",
            f"The recipe cannot be read ({reason(error)}).",
            where=str(path),
            mend="Save it as UTF-8 text.",
        ) from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        mend = "Mend that line."
        if path.suffix != ".toml":
            mend = f'Give a recipe. For records, write one: a file of two lines, [data] and source = "{path.name}".'
        raise RecipeError(
            "recipe.not-toml", f"The recipe is not TOML: {error}.", where=str(path), mend=mend
        ) from None
    table.setdefault("name", _name_from(path))
    _anchor_paths(table, folder or path.parent)
    return from_table(table, changes, where=str(path))


def from_table(table: dict[str, Any], changes: list[str] | None = None, *, where: str = "recipe") -> Recipe:
    """Checks a recipe given as nested tables, with `--set` changes laid over it.

    Args:
        table: as TOML gives it; relative paths start at the current folder.
        changes: KEY=VALUE, such as "train.budget=5M tokens".
        where: what to call it in errors.

    Raises:
        RecipeError: as of `check`; or a change is not KEY=VALUE.
    """
    over: dict[str, Any] = {}
    for change in changes or []:
        key, value = _parse_change(change)
        put(over, key, value)
    _anchor_paths(over, Path.cwd())
    merged = merge(table, over)
    _anchor_paths(merged, Path.cwd())
    return check(merged, where=where)


def _name_from(path: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:64]
    return name or "run"


def _anchor_paths(table: dict[str, Any], folder: Path) -> None:
    """Makes the relative paths of a recipe absolute, so that the resolved recipe works from anywhere."""

    def absolute(path: str) -> str:
        if path in BUILT_IN_SOURCES or path.startswith("hf:"):
            return path
        return str((folder / Path(path).expanduser()).absolute())

    for key in (
        "data.source",
        "data.validation",
        "data.test",
        "tokenizer.from",
        "model.from",
        "train.distill.from",
        "compress.calibrate",
    ):
        value = get(table, key)
        if isinstance(value, str) and value:
            put(table, key, absolute(value))
        elif isinstance(value, list):
            put(table, key, [absolute(item) if isinstance(item, str) and item else item for item in value])
    vault_key = get(table, "vault.key")
    if isinstance(vault_key, str) and vault_key.startswith("file:"):
        put(table, "vault.key", "file:" + absolute(vault_key.removeprefix("file:")))


def _parse_change(change: str) -> tuple[str, Any]:
    key, sign, text = change.partition("=")
    key = key.strip()
    if not sign or not key:
        raise RecipeError(
            "recipe.bad-change",
            f"`--set {change}` has no KEY=VALUE.",
            mend='Write for example: --set train.budget="300 steps"',
        )
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key, text.strip()  # the shell has eaten the quotes: train.budget=2 min
