"""Small images with labels for the tests of this room."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shuyuan.data import Manifest, open_split
from shuyuan.recipe import Recipe, from_table
from shuyuan.vault import Store


def pictured(source: Any, **data: Any) -> Recipe:
    """A recipe that reads images; keywords go into [data], those of other tables as `privacy={…}`."""
    tables = {key: data.pop(key) for key in ("privacy", "tokenizer", "seed") if key in data}
    spec = source if isinstance(source, list) else str(source)
    table = {"task": "classification", "model": {"family": "cnn"}, "data": {"source": spec, **data}}
    return from_table(table | tables)


def images_in(store: Store, manifest: Manifest, split: str) -> tuple[NDArray[np.uint8], list[str]]:
    """(images_RCHW, labels) of a split, in the order of its shards."""
    parts = list(open_split(store, manifest, split, 0).in_order(64))
    images_RCHW: Any = np.concatenate([images for images, _ in parts])
    return images_RCHW, [manifest.labels[kind] for _, kinds in parts for kind in kinds[:, 0].tolist()]
