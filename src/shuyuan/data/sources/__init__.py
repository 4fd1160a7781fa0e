"""Where records come from: files, folders, globs, lists of them, the hub, and what is built in."""

from __future__ import annotations

from pathlib import Path

from ...errors import DataError
from ...recipe import BUILT_IN_SOURCES
from . import tables
from .base import Fact, ImageFacts, Row, Skipped, Source, Wanted, WantedImages
from .digits import Digits
from .files import Files
from .hub import Hub
from .image_files import open_images
from .image_folder import image_bytes
from .opening import inner_suffix
from .packages import Packages
from .stdlib import Stdlib

__all__ = [
    "Fact",
    "ImageFacts",
    "Row",
    "Skipped",
    "Source",
    "Wanted",
    "WantedImages",
    "image_bytes",
    "is_table",
    "open_source",
]


def is_table(path: Path) -> bool:
    """Whether a file is read as rows with columns, by its name.

    Args:
        path: a file, with .gz or .zst behind its ending or without.
    """
    return inner_suffix(path) in tables.READERS


def open_source(spec: str | list[str], wanted: Wanted | WantedImages) -> Source:
    """The source that a recipe names.

    Args:
        spec: a file, folder, glob, `hf:org/name[:split]`, a built-in, or a list of files, folders and globs.
        wanted: the columns to read, and of texts what one record of plain text is.

    Raises:
        DataError: nothing is there, or it is of a kind that this version cannot read.
    """
    specs = [spec] if isinstance(spec, str) else spec
    for name in specs:
        if len(specs) > 1 and (name in BUILT_IN_SOURCES or name.startswith("hf:")):
            raise DataError(
                "data.mixed-list",
                f"A list may hold files, folders and globs, not `{name}`.",
                where="data.source",
                mend="Name it alone, or save its records to a file first.",
            )
    if isinstance(wanted, WantedImages):
        return _images(specs, wanted)
    if specs[0] == "digits":
        raise DataError(
            "data.holds-images",
            "The source `digits` holds images, and the recipe reads text.",
            where="data.source",
            mend='Choose a family that reads images, model.family = "cnn" with task = "classification", or a source of text.',
        )
    if specs[0] == "stdlib":
        return Stdlib(wanted)
    if specs[0] == "packages":
        return Packages(wanted)
    if specs[0].startswith("hf:"):
        return Hub(specs[0], wanted)
    return Files([Path(name) for name in specs], wanted)


def _images(specs: list[str], wanted: WantedImages) -> Source:
    if specs[0] == "digits":
        return Digits(wanted)
    if specs[0].startswith("hf:"):
        return Hub(specs[0], wanted)
    if specs[0] in BUILT_IN_SOURCES:
        raise DataError(
            "data.holds-text",
            f"The source `{specs[0]}` holds text, and the recipe reads images.",
            where="data.source",
            mend="Choose a source of images, for example: digits",
        )
    return open_images([Path(name) for name in specs], wanted)
