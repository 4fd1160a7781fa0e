"""Model folders without their weights: where they are, and what shape the model in them has. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ShuyuanError
from ..recipe import Model
from ..vault import Store, open_model_folder
from .config import TransformerConfig

CONFIG_FILE = "config.json"
LARGEST_JSON_BYTES = 2**24


def config_for(model: Model, vocab_size: int, end_id: int = 0) -> TransformerConfig:
    """The shape of the model that a run will train: the recipe's own, or that of the weights it starts from.

    Args:
        model: the recipe's [model] table.
        vocab_size: of the run's tokenizer.
        end_id: its end token.

    Raises:
        ShuyuanError: there is no model to start from, or it cannot be opened.
    """
    if model.from_ is None:
        return TransformerConfig.from_recipe(model, vocab_size, end_id)
    with opened(Path(model.from_)) as (store, name):
        return replace(read_config(store, name), context=model.context)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Store, str]]:
    """The files of a model folder or run, and the model's folder in them, as `vault.open_model_folder`.

    Raises:
        ShuyuanError: there is no such folder, or it cannot be opened.
    """
    if not path.is_dir():
        raise ShuyuanError(
            "models.no-folder", "There is no such model folder.", where=str(path), mend="Check the path."
        )
    with open_model_folder(path) as found:
        yield found


def read_config(store: Store, name: str) -> TransformerConfig:
    """The shape that config.json tells.

    Args:
        store: where the folder is.
        name: the folder's name in it; "" is the store itself.
    """
    where = PurePosixPath(store.path.as_posix(), name, CONFIG_FILE)
    return TransformerConfig.from_hub(read_json(store, name, CONFIG_FILE), where=str(where))


def read_json(store: Store, name: str, file: str) -> dict[str, Any]:
    """One of the folder's JSON files, checked to be a table of a reasonable size."""
    where = str(PurePosixPath(store.path.as_posix(), name, file))
    full = f"{name}/{file}".removeprefix("/")
    if full not in store.names(full):
        raise missing(file, str(PurePosixPath(where).parent))
    with store.open(full) as reader:
        content = reader.read_at(0, min(reader.size, LARGEST_JSON_BYTES + 1))
    try:
        table = json.loads(content) if len(content) <= LARGEST_JSON_BYTES else None
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise ShuyuanError(
            "models.bad-json",
            "The file is not a JSON table of a reasonable size.",
            where=where,
            mend="Get the file again from where it came from.",
        )
    return table


def missing(file: str, place: str) -> ShuyuanError:
    return ShuyuanError(
        "models.missing-file",
        f"The model folder has no {file}.",
        where=place,
        mend="Give a whole model folder: config.json and model.safetensors at least.",
    )
