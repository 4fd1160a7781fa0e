"""Where records come from: files, folders, globs, lists of them, the hub, and what is built in."""

from __future__ import annotations

from pathlib import Path

from ...errors import DataError
from ...recipe import BUILT_IN_SOURCES
from .base import Fact, Row, Skipped, Source, Wanted
from .files import Files
from .hub import Hub
from .packages import Packages
from .stdlib import Stdlib

__all__ = ["Fact", "Row", "Skipped", "Source", "Wanted", "open_source"]


def open_source(spec: str | list[str], wanted: Wanted) -> Source:
    """The source that a recipe names.

    Args:
        spec: a file, folder, glob, `hf:org/name[:split]`, `stdlib`, `packages`, or a list of files, folders and globs.
        wanted: the columns to read and what one record of plain text is.

    Raises:
        DataError: nothing is there, or it is of a kind that this version cannot read.
    """
    specs = [spec] if isinstance(spec, str) else spec
    for name in specs:
        if name == "digits":
            raise DataError(
                "data.images-unavailable",
                "The source `digits` holds images, and this version has no family that reads images.",
                where="data.source",
                mend="Choose a source of text, for example: stdlib",
            )
        if len(specs) > 1 and (name in BUILT_IN_SOURCES or name.startswith("hf:")):
            raise DataError(
                "data.mixed-list",
                f"A list may hold files, folders and globs, not `{name}`.",
                where="data.source",
                mend="Name it alone, or save its records to a file first.",
            )
    if specs[0] == "stdlib":
        return Stdlib(wanted)
    if specs[0] == "packages":
        return Packages(wanted)
    if specs[0].startswith("hf:"):
        return Hub(specs[0], wanted)
    return Files([Path(name) for name in specs], wanted)
