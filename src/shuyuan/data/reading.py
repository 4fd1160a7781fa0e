"""What training and evaluation read of a split."""

from __future__ import annotations

from ..vault import Store
from .batches import Windows
from .images import Images
from .manifest import Manifest
from .rows import Rows


def open_split(store: Store, manifest: Manifest, split: str, context: int) -> Windows | Rows | Images:
    """A split as it is trained on: images, rows of labelled records, or windows of the token stream.

    Args:
        context: tokens of a window, and the most of a row; images have none.
    """
    if manifest.image is not None:
        return Images(store, manifest, split)
    return (Rows if manifest.labels else Windows)(store, manifest, split, context)
