"""Labels for texts and images: what a model that tells classes apart says of each, with its probability.

Shapes: B texts or images, T tokens of a row, K classes; C channels, H and W height and width of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Tokenizer, by_width, filled, row_of
from ..errors import ShuyuanError
from ..hardware import Precision as PrecisionName
from ..models import AnyNetwork
from .arrays import computed

BATCH = 64


class Labeller:
    """Tells the class of texts or images, or which labels they have.

    Attributes:
        labels: their names.
        multi_label: whether each is told by itself, so that there may be any number of them.

    Args:
        model: a network with labels, for the ones or the others.
        precision: of its matrix products.

    Raises:
        ShuyuanError: the model continues text, and knows no classes.
    """

    def __init__(self, model: AnyNetwork, precision: PrecisionName = "fp32") -> None:
        if not model.config.labels:
            raise ShuyuanError(
                "inference.no-labels",
                "The model continues text, and tells no classes apart.",
                mend='Use `shuyuan generate`, or train with task = "classification".',
            )
        self.labels = model.config.labels
        self.multi_label: bool = model.config.multi_label
        self._context = model.context
        self._computed = computed(model, precision)

    def probabilities(self, inputs: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Probabilities of the classes, or of each label, (B, K) of rows (B, T) that are filled up with -1, or of images (B, C, H, W), uint8.

        Args:
            inputs: rows or images.
        """
        return by_width(self._computed.probabilities, inputs)

    def label(self, texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[dict[str, float]]:
        """For each text the probability of every class, the likeliest first; a long text is cut to the context.

        Args:
            texts: any number.
            tokenizer: of the run.
        """
        for start in range(0, len(texts), BATCH):
            tokens = tokenizer.encode_batch(texts[start : start + BATCH])
            rows = [row_of(each, tokenizer, self._context) for each in tokens]
            yield from self._told(filled(rows, max(map(len, rows))))

    def label_images(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[dict[str, float]]:
        """The same for images (C, H, W) of the shape that the model reads.

        Args:
            images: any number, uint8.
        """
        images = iter(images)
        while batch := list(islice(images, BATCH)):
            yield from self._told(np.stack(batch))

    def _told(self, inputs: NDArray[np.integer[Any]]) -> Iterator[dict[str, float]]:
        for probabilities_K in self.probabilities(inputs):
            order = np.argsort(-probabilities_K, kind="stable")
            yield {self.labels[number]: float(probabilities_K[number]) for number in order}
