"""Images as pixels, brought to the one shape of a run.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .sources import ImageFacts, Skipped, image_bytes
from .sources.shapes import PIXELS_LIMIT

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]  # (H, W, C)
FORMATS = (
    "PNG",
    "JPEG",
    "BMP",
    "WEBP",
)  # what else the library reads has parsers that few have looked through
_GREY = ("1", "L", "LA", "La")


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
    its luminance (ITU-R 601), grey to colour as three equal channels.

    Args:
        pixels_HWC: of 1 channel or 3.
        image: the shape that is wanted.
    """
    if shape_of(pixels_HWC) != image:
        from PIL import Image

        grey = pixels_HWC.shape[2] == 1
        picture = Image.fromarray(pixels_HWC[:, :, 0] if grey else pixels_HWC)
        picture = picture.convert("L" if image.channels == 1 else "RGB")
        if picture.size != (image.width, image.height):
            picture = picture.resize((image.width, image.height), Image.Resampling.BILINEAR)
        pixels_HWC = np.asarray(picture).reshape(image.height, image.width, image.channels)
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1))


def read_image(given: str | Path | NDArray[Any], image: ImageFacts) -> Pixels:
    """An image of one's own, as a run's network reads it: (C, H, W).

    Args:
        given: the path of a file, or an array (H, W) or (H, W, 1 or 3) of uint8.
        image: the shape of the run's images.

    Raises:
        DataError: it cannot be read.
    """
    if isinstance(given, np.ndarray):
        pixels = _pixels(given)
        why = "arrays of images are uint8, (H, W) or (H, W, 1 or 3)"
        where = f"{given.dtype} {given.shape}"
    else:
        unread: Skipped = Skipped()
        content = image_bytes(Path(given), unread)
        pixels = None if content is None else decoded(content, unread)
        why, where = "".join(unread), str(given)
    if pixels is None:
        raise DataError(
            "data.unreadable-image",
            f"No image can be read here ({why}).",
            where=where,
            mend="Give a PNG, JPEG, BMP or WebP file.",
        )
    return fitted(pixels, image)


def shape_of(pixels_HWC: Pixels) -> ImageFacts:
    """The shape of an image."""
    return ImageFacts(*pixels_HWC.shape)


def image_field(row: Mapping[str, Any], column: str, where: str, skipped: Skipped) -> Pixels | None:
    """The image in a column; None after counting in `skipped` why there is none.

    Args:
        row: column name to value.
        column: the one that is wanted.
        where: file and line, for errors.
        skipped: where it is counted that there is none.

    Returns:
        (H, W, 1 or 3), uint8.

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
    if isinstance(value, bytes):
        return decoded(value, skipped)
    if isinstance(value, np.ndarray) and (pixels := _pixels(value)) is not None:
        return pixels
    raise DataError(
        "data.not-an-image",
        f"The column `{column}` holds no image, but a {type(value).__name__}.",
        where=where,
        mend="Name another column as `data.image`: one of encoded images, or of paths to them.",
    )


def _pixels(array: NDArray[Any]) -> Pixels | None:
    """An array as an image; None if it is none."""
    channels = array.shape[2:] or (1,)
    if array.dtype != np.uint8 or not array.size or array.ndim not in (2, 3) or channels[0] not in (1, 3):
        return None
    return array.reshape(*array.shape[:2], *channels)


def decoded(content: bytes, skipped: Skipped) -> Pixels | None:
    """An encoded image as it is meant to be seen; None after counting in `skipped` why there is none.

    Turned as its EXIF orientation says, what is transparent on white, 16 bits as their higher 8, palettes in their colours. Grey
    images have one channel, all others three.

    Args:
        content: PNG, JPEG, BMP or WebP; of a moving image, the first.
        skipped: where it is counted that there is none.

    Returns:
        (H, W, 1 or 3), uint8.
    """
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, which is not read
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > PIXELS_LIMIT:
                    raise Image.DecompressionBombError
                image.load()
                return _plain(ImageOps.exif_transpose(image))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            skipped[f"images of over {PIXELS_LIMIT // 10**6} million pixels"] += 1
        except MemoryError:
            raise
        except Exception:  # the library raises dozens of kinds for what is broken
            skipped["images that cannot be read"] += 1
    return None


def _plain(image: Image.Image) -> Pixels:
    """Grey or colour, of 8 bits, on white."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, also where they are held in 32
        return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)[:, :, None]
    grey = image.mode in _GREY
    if image.has_transparency_data:
        on_white = Image.new("RGBA", image.size, "white")
        on_white.alpha_composite(image.convert("RGBA"))
        image = on_white
    return np.asarray(image.convert("L" if grey else "RGB")).reshape(image.height, image.width, -1)
