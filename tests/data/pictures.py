"""Small images with labels for the tests of this room."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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


def idx_files(folder: Path, images_RHW: NDArray[np.uint8], labels_R: Any, packed: str = "") -> Path:
    """Writes an IDX file of images, and that of its labels beside it; `packed` says which of the two are .gz."""
    folder.mkdir(parents=True, exist_ok=True)
    images = struct.pack(">4I", 0x803, *images_RHW.shape) + images_RHW.tobytes()
    labels = struct.pack(">2I", 0x801, len(labels_R)) + bytes(labels_R)
    for name, content in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
        if name[:6] in packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return next(folder.glob("images-*"))


def encoded(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    """Pixels (H, W) or (H, W, C) as an image file."""
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def image_folder(
    folder: Path, counts: dict[str, int], shape: tuple[int, ...] = (6, 5), seed: int = 0
) -> Path:
    """A folder with a folder of so many PNG images for each label, all pixels drawn."""
    random = np.random.default_rng(seed)
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, shape, np.uint8)
            (folder / label / f"{number}.png").write_bytes(encoded(pixels))
    return folder
