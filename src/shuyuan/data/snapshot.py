"""A repository of the Hugging Face hub as a local folder: what `hf:org/name` in a recipe's `from` names.

Only configuration, tokenizer and safetensors are fetched, once, into the cache that huggingface_hub keeps; afterwards the network
is not asked again. `HF_ENDPOINT` names a mirror, `HF_TOKEN` an account, `HF_HOME` another cache.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from pathlib import Path

from ..errors import DataError, first_line, missing_extra

PREFIX = "hf:"
FILES = ["*.json", "*.safetensors", "*.jinja"]
_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def local_folder(place: str | Path, *, weights: bool = True) -> Path:
    """The folder that a recipe's `from` names.

    Args:
        place: a path, or hf:org/name, or hf:org/name@revision.
        weights: whether they are needed; a plan makes do with the configuration.

    Raises:
        DataError: the hub has no such repository, or cannot be reached.
        MachineError: huggingface_hub is not installed.
    """
    if isinstance(place, str) and place.startswith(PREFIX):
        return _fetched(place, weights)
    return Path(place)


def pinned(place: str) -> str:
    """The same with the commit that stands behind it now, so that a run goes on from the same files for ever.

    Args:
        place: as the recipe has it; what names no repository of the hub, or a commit already, stays.

    Raises:
        DataError: the hub has no such repository, or cannot be reached.
        MachineError: huggingface_hub is not installed.
    """
    if not place.startswith(PREFIX) or _COMMIT.fullmatch(place.partition("@")[2]):
        return place
    return f"{place.partition('@')[0]}@{_fetched(place, weights=True).name}"


def _fetched(place: str, weights: bool) -> Path:
    name, _, revision = place.removeprefix(PREFIX).partition("@")
    if not _NAME.fullmatch(name):
        raise DataError(
            "data.bad-hub-name",
            "This is not the name of a repository on the hub.",
            where=place[:200],
            mend="Write hf:organisation/name, or hf:organisation/name@revision.",
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        raise missing_extra("A model on the Hugging Face hub", "huggingface") from None
    fetch = partial(
        snapshot_download, name, revision=revision or None, allow_patterns=FILES if weights else FILES[:1]
    )
    if _COMMIT.fullmatch(revision):  # what stands behind any other revision may have changed
        with suppress(LocalEntryNotFoundError):
            return Path(fetch(local_files_only=True))
    try:
        return Path(fetch())
    except Exception as error:  # the library raises dozens of kinds, from offline to no such repository
        raise DataError(
            "data.hub-failed",
            f"The model cannot be fetched from the hub ({type(error).__name__}: {first_line(error)}).",
            where=place,
            mend="Check its name and the network; HF_ENDPOINT names a mirror, HF_TOKEN an account. A local folder needs neither.",
        ) from None
