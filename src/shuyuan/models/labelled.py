"""What all of our own networks share that tell classes apart: their loss, and their weights by name.

Shapes: B texts or images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor, nn

from .functions import label_losses

Made = TypeVar("Made", bound="Labelled")


class Labelled(nn.Module):
    """A classifier: inputs in, one logit for each class out.

    Args:
        config: the shape, with `labels`.

    Attributes:
        new: as of `Transformer`.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.new: frozenset[str] | None = None

    @property
    def context(self) -> int:
        """Tokens that the model sees at once."""
        context: int = self.config.context
        return context

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The sum of the losses of all rows, in nats, a float32 scalar.

        Args:
            inputs, targets: as of `losses`.
        """
        return self.losses(inputs, targets).sum()

    def losses(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each row (B, 1), as of `label_losses`.

        Args:
            inputs: as of `forward`.
            targets: the class (B, 1), or a one for each label that a row has and a zero for each other (B, 1, K); -100: not learned.
        """
        return label_losses(self(inputs), targets)

    def to_hub(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The content of config.json, and the weights by name."""
        return self.config.to_hub(), dict(self.named_parameters())


def loaded(
    make: Callable[[Any, int], Made],
    config: Any,
    weights: Mapping[str, Tensor],
    labels: Sequence[str] | None,
    seed: int,
    head: str,
) -> Made:
    """A classifier with stored weights.

    Args:
        make: draws a network of a shape from a seed.
        config: as stored.
        weights: all of them, by name.
        labels: names of the classes; others than the stored ones get a head that is drawn anew, from the seed.
        seed: start of what is drawn.
        head: its name.
    """
    new: frozenset[str] = frozenset()
    if labels is not None and tuple(labels) != config.labels:
        config, new = replace(config, labels=tuple(labels)), frozenset({f"{head}.weight", f"{head}.bias"})
    model = make(config, seed)
    model.load_state_dict({name: weights[name] for name in weights if name not in new}, strict=not new)
    model.new = new
    return model
