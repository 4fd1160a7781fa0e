"""The built-in source `digits`: 1,797 handwritten digits of 8 x 8 pixels, which come with scikit-learn.

They are the test set of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, UCI, 1998); no download.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...errors import missing_extra
from .base import Fact, ImageFacts, Row, Skipped, Source, WantedImages

COUNT, SIDE, BRIGHTEST = 1797, 8, 16


class Digits(Source):
    """The digits, grey, with their values of 0 to 16 spread over 0 to 255, and labels "0" to "9".

    Args:
        wanted: under which columns image and label are given.

    Raises:
        MachineError: scikit-learn is not installed.
    """

    image = ImageFacts(SIDE, SIDE, 1)
    records = COUNT
    total_bytes = COUNT * SIDE * SIDE

    def __init__(self, wanted: WantedImages) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise missing_extra("The source `digits`", "images") from None
        found = load_digits()
        self._images = np.rint(found.images * (255 / BRIGHTEST)).astype(np.uint8)
        self._labels = found.target.tolist()
        self._wanted = wanted
        self._read = 0

    def facts(self) -> list[Fact]:
        return [Fact("digits", self.total_bytes, 0)]

    @property
    def position(self) -> int:
        return self._read

    def rows(self, skipped: Skipped) -> Iterator[Row]:
        self._read = 0
        for number, (pixels, label) in enumerate(zip(self._images, self._labels, strict=True), 1):
            self._read += pixels.nbytes
            yield Row({self._wanted.image: pixels, self._wanted.label: label}, f"digits:{number}")
