"""The weights of a model folder, as arrays; loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ..errors import ShuyuanError
from ..vault import Reader, Store
from .config import HEAD, TransformerConfig
from .folder import CONFIG_FILE, read_json, weight_files
from .hub_config import HubConfig
from .image_config import ImageConfig
from .packed import Arrays, Floats, Kind
from .packed_file import kinds, read_dense, read_packed
from .weights import FLOATS, Place, Shaped, check_shapes, damaged, read_array, read_header

EMBEDDING = "model.embed_tokens.weight"


Keep = Callable[[str, Floats], Any]  # a weight's name and the weight: what is kept of it


def read_weights(
    store: Store, name: str, config: TransformerConfig | ImageConfig, keep: Keep = lambda _, weight: weight
) -> dict[str, Any]:
    """All parameters by name, in float32, checked against the configuration where that is ours.

    Args:
        store: where the folder is.
        name: the folder's name in it; "" is the store itself.
        config: what its config.json says.
        keep: what is kept of each, as soon as it is read; all of it, by default.

    Raises:
        ShuyuanError: a file is missing or damaged, or the weights do not fit the configuration.
    """
    packed = _packed(store, name, config)
    if packed:
        return {weight: keep(weight, array) for weight, array in read_packed(store, name, packed)}
    return _read_floats(store, name, config, keep)


def read_codes(
    store: Store, name: str, config: TransformerConfig
) -> Iterator[tuple[str, Kind | None, Arrays]]:
    """All parameters as they are stored.

    Args:
        store, name, config: as of `read_weights`.

    Yields:
        (name, how it is stored where it has fewer bytes, and what, as `packed.dense` has it), one at a time.

    Raises:
        ShuyuanError: as of `read_weights`.
    """
    packed = _packed(store, name, config)
    if packed:
        yield from ((weight, packed[weight], arrays) for weight, arrays in read_dense(store, name, packed))
        return
    for weight, array in _read_floats(store, name, config, lambda _, array: array).items():
        yield weight, None, {"": array}


def _packed(store: Store, name: str, config: TransformerConfig | ImageConfig) -> dict[str, Kind] | None:
    place = str(PurePosixPath(store.path.as_posix(), name))
    packed = kinds(read_json(store, name, CONFIG_FILE), f"{place}/{CONFIG_FILE}")
    if packed is not None:
        _check(packed, config, place)
    return packed


def _read_floats(
    store: Store, name: str, config: TransformerConfig | ImageConfig, keep: Keep
) -> dict[str, Any]:
    place, prefix = str(PurePosixPath(store.path.as_posix(), name)), f"{name}/" if name else ""
    with ExitStack() as stack:
        readers = {file: stack.enter_context(store.open(prefix + file)) for file in weight_files(store, name)}
        headers = {file: read_header(reader, f"{place}/{file}") for file, reader in readers.items()}
        _check(_merge(headers, place), config, place)
        weights = {weight: keep(weight, array) for weight, array in _read_all(readers, headers, place)}
    if type(config) is TransformerConfig and config.tied:
        _drop_tied_head(weights, place)
    return weights


def _check(stored: Mapping[str, Shaped], config: TransformerConfig | ImageConfig, place: str) -> None:
    """Compares what is stored with the shapes that one of our own configurations says."""
    if isinstance(config, HubConfig):
        return
    expected = dict(config.shapes)
    if isinstance(config, TransformerConfig) and config.tied and HEAD in stored:
        expected[HEAD] = expected[EMBEDDING]
    check_shapes(stored, expected, place)


def _merge(headers: dict[str, dict[str, Place]], place: str) -> dict[str, Place]:
    """The tensors of all files; one that stands in two of them is refused."""
    places: dict[str, Place] = {}
    for file, header in headers.items():
        for tensor in header:
            if tensor in places:
                raise damaged(f"{tensor[:80]} stands in another file too", f"{place}/{file}")
        places.update(header)
    return places


def _read_all(
    readers: dict[str, Reader], headers: dict[str, dict[str, Place]], place: str
) -> Iterator[tuple[str, Floats]]:
    for file, header in headers.items():
        for tensor, at in header.items():
            if at.dtype in FLOATS:  # others are tables that a model computes for itself
                yield tensor, read_array(readers[file], at, f"{place}/{file}")


def _drop_tied_head(weights: dict[str, Any], place: str) -> None:
    """Some writers store a tied head too; it must then be the embedding."""
    head = weights.pop(HEAD, None)
    if head is not None and not np.array_equal(head, weights[EMBEDDING]):
        raise ShuyuanError(
            "models.not-tied",
            f"config.json says that {HEAD} is the embedding, and the weights hold another.",
            where=place,
            mend='Set "tie_word_embeddings" to false in config.json if the head was trained by itself.',
        )
