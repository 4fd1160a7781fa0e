"""Images as pixels, brought to the one shape of a run.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .sources import ImageFacts, Skipped

Pixels = NDArray[np.uint8]  # (H, W, C)


class Fitter:
    """Brings images to one shape.

    Args:
        image: that shape.

    Attributes:
        changed: images that had another height or width, and were resized.
    """

    def __init__(self, image: ImageFacts) -> None:
        self._image = image
        self.changed = 0

    def __call__(self, pixels_HWC: Pixels) -> bytes:
        """The pixels of the image in that shape, each channel after the other, row by row."""
        self.changed += pixels_HWC.shape[:2] != (self._image.height, self._image.width)
        return fitted(pixels_HWC, self._image).tobytes()


def fitted(pixels_HWC: Pixels, image: ImageFacts) -> Pixels:
    """An image in another shape (C, H, W): averaged over areas where it shrinks, bilinear where it grows; colour to grey by
    its luminance (ITU-R 601), grey to colour as three equal channels."""
    if shape_of(pixels_HWC) != image:
        from PIL import Image

        grey = pixels_HWC.shape[2] == 1
        picture = Image.fromarray(pixels_HWC[:, :, 0] if grey else pixels_HWC)
        picture = picture.convert("L" if image.channels == 1 else "RGB")
        if picture.size != (image.width, image.height):
            picture = picture.resize((image.width, image.height), Image.Resampling.BILINEAR)
        pixels_HWC = np.asarray(picture).reshape(image.height, image.width, image.channels)
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1))


def shape_of(pixels_HWC: Pixels) -> ImageFacts:
    """The shape of an image."""
    return ImageFacts(*pixels_HWC.shape)


def image_field(row: Mapping[str, Any], column: str, where: str, skipped: Skipped) -> Pixels | None:
    """The image in a column; None after counting in `skipped` why there is none.

    Raises:
        DataError: there is no such column, or it holds something that is no image.
    """
    if column not in row:
        raise DataError(
            "data.no-column",
            f"There is no column `{column}` with the image.",
            where=where,
            mend=f"Name one of these as `data.image`: {', '.join(map(str, row)) or 'none found'}.",
        )
    value = row[column]
    if value is None:
        skipped["records without an image"] += 1
        return None
    pixels: Pixels = value
    return pixels.reshape(*pixels.shape[:2], -1)
