"""The shape of a network for images, and its spelling in a `config.json`. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ..data import ImageFacts
from ..errors import ShuyuanError
from ..recipe import Model
from ..tasks.base import Output
from .config import bad_config, label_names, label_table, whole_number, whole_numbers

IMAGE_TYPE = "shuyuan-cnn"  # `model_type` of its config.json
# name: (channels of each stage, residual convolutions a stage, width of the hidden layer)
BODIES: dict[str, tuple[tuple[int, ...], int, int]] = {
    "textbook": ((32,), 0, 128),
    "small": ((16, 32, 64), 1, 0),
    "medium": ((64, 128, 256), 1, 0),
}
KERNEL = 3
GROUPS = 8  # of channels that are normed together, at most
LAST_SIDE = 4  # of the map that the head reads, at most
PLACE_BYTES = 8  # of the place of a maximum, which pooling keeps
MOST_STAGES, MOST_CHANNELS, MOST_SIDE = 16, 2**16, 2**12


class Layer(NamedTuple):
    """A layer with parameters, as costs see it.

    Attributes:
        name: of the module.
        kind: "convolution", "norm" or "matrix".
        inputs: channels or features that it reads.
        outputs: those that it writes.
        places: positions of an image at which it does so.
        bias: whether it has one.
    """

    name: str
    kind: str
    inputs: int
    outputs: int
    places: int
    bias: bool

    @property
    def weight(self) -> tuple[int, ...]:
        """The shape of its weight."""
        if self.kind == "norm":
            return (self.outputs,)
        kernel = (KERNEL, KERNEL) if self.kind == "convolution" else ()
        return (self.outputs, self.inputs, *kernel)


@dataclass(frozen=True)
class ImageConfig:
    """The shape of a network for images.

    Args:
        height: pixels.
        width: pixels.
        channels: 1 for grey, 3 for colour.
        labels: names of the classes that the head tells apart.
        widths: channels of each stage.
        residual: residual convolutions a stage.
        hidden: width of the hidden layer of the textbook network; 0 for a residual network, which has none.
    """

    multi_label: ClassVar[bool] = False
    height: int
    width: int
    channels: int
    labels: tuple[str, ...]
    widths: tuple[int, ...]
    residual: int = 0
    hidden: int = 0

    @classmethod
    def from_recipe(cls, model: Model, image: ImageFacts, labels: Sequence[str]) -> ImageConfig:
        """The network that a recipe's [model] table asks for, for images of that shape."""
        widths, residual, hidden = BODIES[model.size]
        return cls(image.height, image.width, image.channels, tuple(labels), widths, residual, hidden)

    def __post_init__(self) -> None:
        if self.hidden and min(self.height, self.width) < 2:
            raise ShuyuanError(
                "models.small-images",
                f"Images of {self.height} x {self.width} pixels cannot be halved, as the textbook network does.",
                where="model.size",
                mend='Take size = "small", or larger images.',
            )

    @property
    def vocab_size(self) -> int:
        """Tokens that the network knows: none."""
        return 0

    @property
    def output(self) -> Output:
        """What the head gives."""
        return "labels"

    @property
    def head(self) -> tuple[int, int]:
        """(predictions an image, logits a prediction)."""
        return 1, len(self.labels)

    def sides(self) -> list[tuple[int, int]]:
        """Height and width of the map that each stage reads, and at the end of the one that the last one writes.

        A stage halves what is larger than LAST_SIDE; the textbook's one stage always does.
        """
        sides = [(self.height, self.width)]
        for _ in self.widths:
            height, width = sides[-1]
            halves = bool(self.hidden) or min(height, width) > LAST_SIDE
            sides.append((height // 2, width // 2) if halves else (height, width))
        return sides

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the part of the last map that is averaged into one place for the head; (1, 1): none is."""
        height, width = self.sides()[-1]
        return (1, 1) if self.hidden else (-(-height // LAST_SIDE), -(-width // LAST_SIDE))

    @property
    def features(self) -> int:
        """Numbers that the last map holds, as the head or the hidden layer reads it."""
        (height, width), (down, across) = self.sides()[-1], self.window
        return self.widths[-1] * -(-height // down) * -(-width // across)

    def layers(self) -> Iterator[Layer]:
        """Every layer that has parameters, in the order in which an image passes them."""
        features = self.features
        if self.hidden:
            yield Layer("conv", "convolution", self.channels, self.widths[0], self.height * self.width, True)
            yield Layer("hidden", "matrix", features, self.hidden, 1, True)
            features = self.hidden
        else:
            yield from self._stages()
        yield Layer("head", "matrix", features, len(self.labels), 1, True)

    def _stages(self) -> Iterator[Layer]:
        inputs, sides = self.channels, self.sides()
        for number, width in enumerate(self.widths):
            before, after = (height * across for height, across in sides[number : number + 2])
            unit = f"stages.{number}"
            yield Layer(f"{unit}.conv", "convolution", inputs, width, before, False)
            yield Layer(f"{unit}.norm", "norm", width, width, before, True)
            for place in range(self.residual):
                inside = f"{unit}.residual.{place}"
                yield Layer(f"{inside}.conv", "convolution", width, width, after, False)
                yield Layer(f"{inside}.norm", "norm", width, width, after, True)
            inputs = width

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.layers():
            shapes[f"{layer.name}.weight"] = layer.weight
            if layer.bias:
                shapes[f"{layer.name}.bias"] = (layer.outputs,)
        return shapes

    def kept_bytes(self, size: int) -> int:
        """Bytes of one image that the forward pass keeps for the backward pass, without logits and copies of weights.

        Args:
            size: bytes of a number.
        """
        sides = [height * width for height, width in self.sides()]
        kept = size * self.channels * sides[0]  # the pixels, which the first convolution reads
        for number, width in enumerate(self.widths):
            before, after = sides[number : number + 2]
            kept += size * width * before  # what ReLU writes
            if after != before:  # what pooling writes, and where it found it
                kept += (size + PLACE_BYTES) * width * after
            if self.hidden:
                return kept + size * self.hidden
            kept += size * width * before  # what the norm reads
            kept += (
                3 * size * width * after * self.residual
            )  # the same of each, and the sum with what was there
        return kept + (size * self.features if self.window != (1, 1) else 0)

    @property
    def parameters(self) -> int:
        """Exact number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def to_hub(self) -> dict[str, Any]:
        """The content of `config.json`; pixels from 0 to 255 are read as (pixel / 255 - 0.5) / 0.5."""
        return {
            "architectures": ["Textbook" if self.hidden else "Residual"],
            "model_type": IMAGE_TYPE,
            "dtype": "float32",
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
            "widths": list(self.widths),
            "residual": self.residual,
            "hidden": self.hidden,
            "image_mean": 0.5,
            "image_std": 0.5,
            **label_table(self.labels),
        }

    @classmethod
    def from_hub(cls, table: Mapping[str, Any], *, where: str = "config.json") -> ImageConfig:
        """Reads the content of a `config.json` of this type.

        Raises:
            ShuyuanError: a size is missing or absurd.
        """
        widths = table.get("widths")
        if not isinstance(widths, list) or not 1 <= len(widths) <= MOST_STAGES:
            raise bad_config(
                "widths", widths, f"it must list the channels of 1 to {MOST_STAGES} stages", where
            )
        numbered = {str(number): width for number, width in enumerate(widths)}
        hidden = 0 if table.get("hidden") == 0 else whole_number(table, "hidden", where)
        residual = 0 if table.get("residual") == 0 else whole_number(table, "residual", where, most=64)
        found = tuple(whole_number(numbered, key, where, most=MOST_CHANNELS) for key in numbered)
        if hidden and len(found) > 1:
            raise bad_config("widths", widths, "the textbook network has one stage", where)
        if not hidden and any(width % min(GROUPS, width) for width in found):
            raise bad_config("widths", widths, f"each must be a multiple of {GROUPS}, or less", where)
        return cls(
            **whole_numbers(table, where, height=MOST_SIDE, width=MOST_SIDE, channels=MOST_CHANNELS),
            labels=label_names(table, where),
            widths=found,
            residual=residual,
            hidden=hidden,
        )
