"""How large an image may be, wherever it comes from."""

from __future__ import annotations

from ...errors import DataError

PIXELS_LIMIT = (
    64_000_000  # of one image; it stands in memory decoded, and a small file can claim to be any size
)


def check_pixels(height: int, width: int, where: str) -> None:
    """Refuses arrays of images that are larger than any that is decoded, or have no pixel.

    Args:
        height, width: in pixels.
        where: the file, for errors.

    Raises:
        DataError: they are.
    """
    if not 0 < height * width <= PIXELS_LIMIT:
        raise DataError(
            "data.image-size",
            f"The images would have {height:,} x {width:,} pixels.",
            where=where,
            mend=f"Images may have up to {PIXELS_LIMIT // 10**6} million pixels, and one at least.",
        )
