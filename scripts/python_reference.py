"""Writes docs/python.md: the public names of the package with their signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import shuyuan
from shuyuan import errors, loaded, privacy, progress, retrieval

SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Example|Reference|Yields):\s*(.*)$")
BEGINNING = """`import shuyuan` loads nothing heavy. Whatever goes wrong is a `ShuyuanError` with a stable code and a way to mend it
([errors](errors.md)). Names that are not on this page may change without notice.
"""
CHAPTERS: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("Runs", "shuyuan", tuple(getattr(shuyuan, name) for name in ("run", "plan", "load"))),
    ("A trained run", "shuyuan.loaded", (loaded.LoadedRun,)),
    ("Documents", "shuyuan", (shuyuan.index, shuyuan.open_index)),
    ("An index", "shuyuan.retrieval", (retrieval.Index,)),
    ("Privacy in a loop of your own", "shuyuan.privacy", (privacy.make_private, privacy.PrivateLoop)),
    ("What is said meanwhile", "shuyuan.progress", (progress.Progress,)),
    ("What goes wrong", "shuyuan.errors", (errors.ShuyuanError,)),
)


def python_page(made: str) -> str:
    """The page.

    Args:
        made: says that it is generated.
    """
    lines = ["# Python reference\n", made, BEGINNING]
    for title, module, things in CHAPTERS:
        lines.append(f"## {title}\n")
        for thing in things:
            lines += _told(f"{module}.{thing.__name__}", thing, "###")
            if inspect.isclass(thing):
                for name, member in _members(thing):
                    lines += _told(f"{thing.__name__}.{name}", member, "####")
    return "\n".join(lines).rstrip() + "\n"


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(kind).items():
        if not name.startswith("_") and inspect.getdoc(member) and not isinstance(member, type):
            yield name, member


def _told(name: str, thing: Any, mark: str) -> list[str]:
    shown = name
    if callable(thing):
        parameters = _parameters(thing)
        one_line = f"{name}({', '.join(parameters)})"
        wrapped = f"{name}(\n" + "".join(f"    {each},\n" for each in parameters) + ")"
        shown = one_line if len(one_line) <= 100 else wrapped
    return [f"{mark} `{name}`\n", f"```text\n{shown}\n```\n", *_sections(inspect.getdoc(thing) or "")]


def _parameters(thing: Any) -> list[str]:
    """Each parameter as it is written, with a star before the first that must be named."""
    written: list[str] = []
    for each in inspect.signature(thing).parameters.values():
        if each.name == "self":
            continue
        if each.kind is each.KEYWORD_ONLY and not any(other.startswith("*") for other in written):
            written.append("*")
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        kind = "" if each.annotation is each.empty else f": {each.annotation}"
        default = "" if each.default is each.empty else f" = {each.default!r}"
        written.append(f"{stars}{each.name}{kind}{default}")
    return written


def _sections(docstring: str) -> list[str]:
    """A docstring as Markdown: its sections become bold words, what is explained in them a list, an example code."""
    lines: list[str] = []
    inside = ""
    for line in docstring.splitlines():
        found = SECTION.match(line)
        if found:
            inside = found[1]
            lines += ["" if lines and lines[-1] else None, f"**{inside}** {found[2]}".rstrip(), ""]  # type: ignore[list-item]
        elif inside == "Example" and line.strip():
            lines.append("    " + line.strip() if line.startswith("    ") else line)
        elif inside and re.match(r"^    [\w*, `.]+: ", line):
            name, _, text = line.strip().partition(": ")
            lines.append(f"- `{name}`: {text}")
        elif inside and line.startswith("        "):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line.strip() if inside else line)
    return [line for line in lines if line is not None] + [""]
