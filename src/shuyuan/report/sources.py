"""What a run's records are, in words: by kind, without the folders they lie in."""

from __future__ import annotations

from pathlib import PurePath

from ..recipe import BUILT_IN_SOURCES, Recipe

_BUILT_IN = {
    "stdlib": "the documentation and source text of Python",
    "packages": "the beginnings of the source files of installed Python packages",
    "digits": "images of handwritten digits",
}
_PACKED = (".gz", ".zst")


def described(recipe: Recipe) -> str:
    """The source as the run's own page names it: "records of notes.jsonl"."""
    source = recipe.data.source
    if isinstance(source, list):
        return f"records of {len(source)} sources" if len(source) > 1 else _one(source[0])
    return _one(source)


def kind(recipe: Recipe) -> str:
    """The source as the model card names it: public ones by name, private ones by their kind of file alone."""
    source = recipe.data.source
    several = source if isinstance(source, list) else [source]
    kinds = dict.fromkeys(
        _one(one) if _is_public(one) else f"private records ({_ending(one)})" for one in several
    )
    return " and ".join(kinds)


def _one(source: str) -> str:
    if source in BUILT_IN_SOURCES:
        return f"{_BUILT_IN[source]} (the built-in source {source})"
    if source.startswith("hf:"):
        return f"the public data set {source.removeprefix('hf:')}"
    return f"records of {PurePath(source).name or source}"


def _is_public(source: str) -> bool:
    return source in BUILT_IN_SOURCES or source.startswith("hf:")


def _ending(source: str) -> str:
    if "ubyte" in source:  # ends in no suffix: train-images-idx3-ubyte
        return "IDX files"
    endings = [ending for ending in PurePath(source).suffixes if ending not in _PACKED]
    ending = endings[-1] if endings else ""
    return f"{ending} files" if ending[1:].isalnum() else "a folder of files"
