"""Writes changed settings into a recipe's text: comments, order and spacing stay wherever a line can be changed by itself."""

from __future__ import annotations

import copy
import os
import re
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from .. import recipe as recipes
from ..errors import RecipeError, RunError
from ..runs import sync_folder


@dataclass(frozen=True)
class Written:
    """A recipe that was written.

    Attributes:
        file: where.
        changes: {key, was, now} of each; None where it is not there.
        comments_kept: whether the text could be changed line by line.
    """

    file: Path
    changes: list[dict[str, Any]]
    comments_kept: bool

    def to_json(self) -> dict[str, Any]:
        return {"file": str(self.file), "changes": self.changes, "comments_kept": self.comments_kept}


def write(source: Path, to: Path, change: dict[str, Any]) -> Written:
    """Writes a recipe with some keys changed; the file is there whole, new or old, whatever happens.

    Args:
        source: the recipe.
        to: the same file, or one that is not there yet.
        change: keys and their values; None takes a key out.

    Raises:
        RunError: another file is there.
        RecipeError: the changed recipe is refused, or would mean other files at its new place.
    """
    if to != source and to.exists():
        raise RunError(
            "plan.file-in-use", "There is a file already.", where=str(to), mend="Choose another --to."
        )
    raw = source.read_bytes().decode("utf-8-sig")
    text, kept = rewritten(raw, change)
    before = tomllib.loads(raw)
    told = [{"key": key, "was": _at(before, key), "now": value} for key, value in change.items()]
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("wb", dir=to.parent, suffix=".toml", delete=False) as out:
        beside = Path(out.name)
        out.write(text.encode())
        out.flush()
        os.fsync(out.fileno())
    try:
        if recipes.load(beside).data != recipes.load(source).data:
            raise RecipeError(
                "plan.other-folder",
                "The recipe's paths start at its folder, so it would read other files there.",
                where=str(to),
                mend=f"Write it into {source.parent}, or make its paths absolute.",
            )
        if source.exists():
            beside.chmod(source.stat().st_mode & 0o777)
        beside.replace(to)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(to.parent)
    return Written(to, told, kept)


def rewritten(text: str, change: dict[str, Any]) -> tuple[str, bool]:
    """The text with keys changed, and whether its comments are still there.

    What the new text says is compared with what it should say; where they differ, as after a value of several lines, the
    recipe is written anew from what it says, without comments.

    Args:
        text: the recipe, as TOML.
        change: key such as "train.batch_size" to its value; None takes the key out.
    """
    wanted = copy.deepcopy(tomllib.loads(text))
    for key, value in change.items():
        _put(wanted, key, value)
    new = text
    for key, value in change.items():
        new = _line_changed(new, key, value)
    try:
        if tomllib.loads(new) == wanted:
            return new, True
    except tomllib.TOMLDecodeError:
        pass
    return tomli_w.dumps(wanted), "#" not in text


def spelled_value(value: Any) -> str:
    """A value as TOML has it, in one line.

    Args:
        value: what TOML can hold.
    """
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {spelled_value(each)}" for key, each in value.items()) + " }"
    return tomli_w.dumps({"x": value}).partition("= ")[2].strip()


def _line_changed(text: str, key: str, value: Any) -> str:
    """One key changed, taken out, or added at the end of its table."""
    lines = text.splitlines(keepends=True)
    if isinstance(value, dict) and _table(lines, key)[0] is not None:  # it has a heading of its own
        for inner, each in value.items():
            text = _line_changed(text, f"{key}.{inner}", each)
        return text
    table, _, name = key.rpartition(".")
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    first, last = _table(lines, table)
    if first is None:
        return (
            text
            if value is None
            else f"{text.rstrip()}{end}{end}[{table}]{end}{name} = {spelled_value(value)}{end}"
        )
    for number in range(first, last):
        found = re.match(
            rf'(\s*(?:{re.escape(name)}|"{re.escape(name)}")\s*=\s*)(.*?)(\r?\n?)$', lines[number]
        )
        if found and value is None:
            return "".join(lines[:number] + lines[number + 1 :])
        if found:
            old = _value_of(found[2])
            lines[number] = found[1] + spelled_value(value) + found[2][len(old) :] + found[3]
            return "".join(lines)
    if value is None:
        return text
    while last > first and lines[last - 1].lstrip()[:1] in (
        "",
        "#",
    ):  # comments at the end may be of what follows
        last -= 1
    if last and not lines[last - 1].endswith("\n"):
        lines[last - 1] += end
    return "".join([*lines[:last], f"{name} = {spelled_value(value)}{end}", *lines[last:]])


def _table(lines: list[str], name: str) -> tuple[int | None, int]:
    """The lines of a table, without its heading; of keys above all tables where the name is empty."""
    headings = [number for number, line in enumerate(lines) if re.match(r"\s*\[", line)]
    if not name:
        return 0, headings[0] if headings else len(lines)
    pattern = rf"\s*\[\s*{re.escape(name)}\s*\]\s*(#.*)?$"
    start = next((number for number in headings if re.match(pattern, lines[number].rstrip())), None)
    if start is None:
        return None, 0
    return start + 1, next((number for number in headings if number > start), len(lines))


def _value_of(rest: str) -> str:
    """The value at the beginning of what stands behind "=": a # may stand in a text, or begin a comment."""
    ends = [found.start() for found in re.finditer("#", rest)] + [len(rest)]
    for end in ends:
        candidate = rest[:end].rstrip()
        try:
            tomllib.loads(f"x = {candidate}")
        except tomllib.TOMLDecodeError:
            continue
        return candidate
    return rest


def _at(table: dict[str, Any], key: str) -> Any:
    here: Any = table
    for part in key.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    return here


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        table = table.setdefault(part, {})
    if value is None:
        table.pop(last, None)
    else:
        table[last] = value
