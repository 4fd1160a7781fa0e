"""Images of labelled records: one record an image, and its class as the only target.

Legend: B images of a batch, C channels, H height, W width, R records of the split.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..vault import Store
from .batches import ImageBatch, InOrder
from .manifest import Manifest
from .sources import ImageFacts
from .stored import StoredRecords


class Images(InOrder[ImageBatch]):
    """The records of a split, each an image of the run's one shape, beside its class.

    Args:
        store: the run's files.
        manifest: what was prepared, of images.
        split: "train", "validation" or "test".

    Attributes:
        count: number of records, and so of images.
        tokens: number of targets: one a record.
        cut: 0; no image is cut.
        counts: records of each class.
        owners_R: keyed hash of each record's owner.

    Raises:
        DataError: a shard is not one, or holds other images.
    """

    cut = 0

    def __init__(self, store: Store, manifest: Manifest, split: str) -> None:
        assert manifest.image is not None
        self._image = manifest.image
        self._records = StoredRecords(store, manifest, split)
        self.owners_R = self._records.owners_R
        self.count = self.tokens = len(self._records.length_R)
        self.counts = self._records.counts

    def at(self, numbers: NDArray[np.int64]) -> ImageBatch:
        """Some records, by their numbers: (images_BCHW, targets_B1).

        Args:
            numbers: B of them, from 0 up to `count`, in any order.

        Returns:
            Pixels from 0 to 255, uint8, and classes, int64; targets (B, 1, K) where a record may have any number of labels.
        """
        images_BCHW = stored_images(self._records, numbers.tolist(), self._image)
        return images_BCHW, self._records.targets(numbers)


def stored_images(records: StoredRecords, numbers: list[int], image: ImageFacts) -> NDArray[np.uint8]:
    """The images (B, C, H, W) of some records.

    Args:
        records: of a split of images.
        numbers: B of them.
        image: the run's shape.

    Returns:
        uint8, from 0 to 255.
    """
    images_BCHW = np.empty((len(numbers), *image.shape), np.uint8)
    for place, number in zip(images_BCHW, numbers, strict=True):
        place.reshape(-1)[:] = records.read(number, 0, image.bytes)
    return images_BCHW
