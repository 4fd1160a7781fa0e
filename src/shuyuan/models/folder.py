"""Model folders without their weights: where they are, and what shape the model in them has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..data import ImageFacts, local_folder
from ..errors import ShuyuanError
from ..recipe import Model
from ..strict import parsed
from ..vault import Store, open_model_folder
from .config import TransformerConfig, is_native
from .hub_config import HubConfig
from .image_config import IMAGE_TYPE, ImageConfig
from .ngram_config import NGRAM_TYPE, NgramConfig
from .packed_file import DTYPES as PACKED_DTYPES
from .packed_file import TABLE, kinds
from .rnn_config import MODEL_TYPE, RnnConfig
from .weights import DTYPES, FLOATS, read_header

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
LARGEST_JSON_BYTES = 2**24
_WEIGHTS = re.compile(r"(model(-\d+-of-\d+)?|packed)\.safetensors")


def config_for(
    model: Model, vocab_size: int, end_id: int = 0, labels: Sequence[str] = (), spans: bool = False
) -> TransformerConfig | RnnConfig:
    """The shape of the model that a run will train: the recipe's own, or that of the weights it starts from.

    Args:
        model: the recipe's [model] table.
        vocab_size: of the run's tokenizer.
        end_id: its end token.
        labels: names of the classes, for a task that tells some apart.
        spans: for a task whose answers are places in a text; the model to start from is then an encoder.

    Raises:
        ShuyuanError: there is no model to start from, it cannot be opened, or it sees fewer tokens than `context`.
    """
    if model.family == "rnn":
        from .rnn_folder import rnn_config

        return rnn_config(model, vocab_size, end_id, labels)
    if model.from_ is None:
        kind = NgramConfig if model.family == "ngrams" else TransformerConfig
        return kind.from_recipe(model, vocab_size, end_id, labels)
    config = stored_config(model.from_)
    if isinstance(config, ImageConfig):
        raise _other_family(model, "images", "text")
    if isinstance(config, NgramConfig) != (model.family == "ngrams"):
        raise _not_of_the_family("ngrams" if isinstance(config, NgramConfig) else "transformer")
    if not isinstance(config, NgramConfig) and model.context > config.context:
        raise ShuyuanError(
            "models.too-long",
            f"The model to start from sees {config.context} tokens at once, and the recipe asks for {model.context}.",
            where="model.context",
            mend=f"Set model.context to {config.context} or less.",
        )
    changes: dict[str, Any] = {}
    if isinstance(config, HubConfig):
        changes = {"spans": spans, "dropout": model.dropout}
    elif model.dropout is not None:
        raise ShuyuanError(
            "models.no-dropout",
            "The model to start from leaves nothing out at random: its layout has no dropout.",
            where="model.dropout",
            mend="Leave the key out.",
        )
    tied = config.tied and not labels
    return replace(config, context=model.context, labels=tuple(labels), tied=tied, end_id=end_id, **changes)


def image_config_for(model: Model, image: ImageFacts, labels: Sequence[str]) -> ImageConfig:
    """The same of a run on images.

    Args:
        model: the recipe's [model] table.
        image: the shape of the run's images.
        labels: names of the classes.

    Raises:
        ShuyuanError: there is no model to start from, it cannot be opened, or it reads other images or none.
    """
    if model.from_ is None:
        return ImageConfig.from_recipe(model, image, labels)
    config = stored_config(model.from_)
    if not isinstance(config, ImageConfig):
        raise _other_family(model, "text", "images")
    if (config.channels, config.height, config.width) != image.shape:
        raise ShuyuanError(
            "models.other-images",
            f"The model to start from reads images of {config.height} x {config.width} pixels and {config.channels} channels, "
            f"and the run has {image.height} x {image.width} and {image.channels}.",
            where="model.from",
            mend=f"Set data.image_size = [{config.height}, {config.width}] and data.channels = {config.channels}.",
        )
    return replace(config, labels=tuple(labels))


def stored_config(path: str) -> TransformerConfig | ImageConfig:
    """The shape of the model in a folder, a run, or a repository of the hub.

    Args:
        path: as in the recipe.

    Raises:
        ShuyuanError: there is no such folder, it cannot be opened, or a file of its weights is not whole, as after a fetch that broke off.
    """
    with opened(path, weights=False) as (store, name):
        config = read_config(store, name)
        prefix = f"{name}/" if name else ""
        for full in store.names(prefix):
            if _WEIGHTS.fullmatch(full.removeprefix(prefix)):
                with store.open(full) as reader:
                    read_header(reader, f"{store.path.as_posix()}/{full}", DTYPES | PACKED_DTYPES)
        return config


def _other_family(model: Model, reads: str, has: str) -> ShuyuanError:
    return ShuyuanError(
        "models.other-family",
        f"The model to start from reads {reads}, and the run has {has}.",
        where=f"model.from = {model.from_}",
        mend=f"Start from a model that reads {has}; model.family says which a run has.",
    )


def _not_of_the_family(family: str) -> ShuyuanError:
    return ShuyuanError(
        "models.other-family",
        f"The model to start from is of the family {family}.",
        where="model.from",
        mend=f'Write model.family = "{family}".',
    )


@contextmanager
def opened(path: str | Path, *, weights: bool = True) -> Iterator[tuple[Store, str]]:
    """The files of a model folder or run, and the model's folder in them, as `vault.open_model_folder`.

    Args:
        path: as in a recipe's `model.from`.
        weights: whether they are needed; of a repository on the hub that was never fetched, the configuration may do.

    Raises:
        ShuyuanError: there is no such folder, or it cannot be opened.
    """
    folder = local_folder(path, weights=weights)
    if not folder.is_dir():
        raise ShuyuanError(
            "models.no-folder", "There is no such model folder.", where=str(path), mend="Check the path."
        )
    with open_model_folder(folder) as found:
        yield found


def read_config(store: Store, name: str) -> TransformerConfig | ImageConfig:
    """The shape that config.json tells: a `HubConfig` for another architecture than ours, with its stored tensors.

    Args:
        store: where the folder is.
        name: the folder's name in it; "" is the store itself.
    """
    where = str(PurePosixPath(store.path.as_posix(), name, CONFIG_FILE))
    table = read_json(store, name, CONFIG_FILE)
    if is_native(table):
        return TransformerConfig.from_hub(table, where=where)
    if table.get("model_type") == IMAGE_TYPE:
        return ImageConfig.from_hub(table, where=where)
    if table.get("model_type") == MODEL_TYPE:
        raise _not_of_the_family("rnn")
    if table.get("model_type") == NGRAM_TYPE:
        return NgramConfig.from_hub(table, where=where)
    packed = kinds(table, where)
    config = HubConfig.from_hub({key: table[key] for key in table if key != TABLE}, where=where)
    if packed is not None:
        return replace(config, tensors={name: kind.shape for name, kind in packed.items()})
    has_weights = any(file.endswith(".safetensors") for file in store.names(name))
    return replace(config, tensors=_stored_shapes(store, name)) if has_weights else config


def _stored_shapes(store: Store, name: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every stored parameter."""
    place = PurePosixPath(store.path.as_posix(), name)
    shapes = {}
    for file in weight_files(store, name):
        with store.open(f"{name}/{file}".removeprefix("/")) as reader:
            header = read_header(reader, str(place / file))
        shapes.update({tensor: at.shape for tensor, at in header.items() if at.dtype in FLOATS})
    return shapes


def weight_files(store: Store, name: str) -> list[str]:
    """The names of a folder's safetensors files: one, or those that an index lists.

    Args:
        store: where the folder is.
        name: the folder's name in it; "" is the store itself.

    Raises:
        ShuyuanError: there is none; where there are pickles instead, it says that they are never opened.
    """
    prefix = f"{name}/" if name else ""
    found = [full.removeprefix(prefix) for full in store.names(prefix)]
    place = str(PurePosixPath(store.path.as_posix(), name))
    if WEIGHTS_FILE in found:
        return [WEIGHTS_FILE]
    if INDEX_FILE in found:
        named = read_json(store, name, INDEX_FILE).get("weight_map")
        files = sorted({str(file) for file in named.values()}) if isinstance(named, dict) else []
        for file in files:
            if file not in found or not file.endswith(".safetensors"):
                raise missing(file[:80], place)
        if files:
            return files
    pickles = [file for file in found if file.endswith(PICKLES)]
    if pickles:
        raise ShuyuanError(
            "models.pickle",
            f"The weights are pickled ({pickles[0]}), and a pickle can run code when it is opened.",
            where=place,
            mend="Use a folder with model.safetensors; transformers' save_pretrained writes one.",
        )
    raise missing(WEIGHTS_FILE, place)


def read_json(store: Store, name: str, file: str) -> dict[str, Any]:
    """One of the folder's JSON files, checked to be a table of a reasonable size.

    Args:
        store: where the folder is.
        name: the folder's name in it; "" is the store itself.
        file: its name in the folder.

    Raises:
        ShuyuanError: it is missing, no table, names a key twice, or has over `LARGEST_JSON_BYTES`.
    """
    where = str(PurePosixPath(store.path.as_posix(), name, file))
    full = f"{name}/{file}".removeprefix("/")
    if full not in store.names(full):
        raise missing(file, str(PurePosixPath(where).parent))
    with store.open(full) as reader:
        content = reader.read_at(0, min(reader.size, LARGEST_JSON_BYTES + 1))
    try:
        table = parsed(content) if len(content) <= LARGEST_JSON_BYTES else None
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
    """The error of a model folder, `place`, that lacks a file."""
    return ShuyuanError(
        "models.missing-file",
        f"The model folder has no {file}.",
        where=place,
        mend="Give a whole model folder: config.json and model.safetensors at least.",
    )
