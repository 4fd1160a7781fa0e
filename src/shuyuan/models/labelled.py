"""What all of our own networks share that tell classes apart: their loss, and their weights by name.

Shapes: B texts or images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .functions import cross_entropy


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

    def loss(self, inputs: Tensor, targets_B1: Tensor) -> Tensor:
        """The sum of the cross entropies, in nats, of all rows whose target is not -100."""
        return self.losses(inputs, targets_B1).sum()

    def losses(self, inputs: Tensor, targets_B1: Tensor) -> Tensor:
        """The cross entropy, in nats, of each row: float32 (B, 1), zero where the target is -100."""
        return cross_entropy(self(inputs), targets_B1.flatten()).view(targets_B1.shape)

    def to_hub(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The content of config.json, and the weights by name."""
        return self.config.to_hub(), dict(self.named_parameters())

    def load(self, weights: Mapping[str, Tensor], new: frozenset[str]) -> None:
        """Takes stored weights, all but those that were drawn anew."""
        stored = {name: weight for name, weight in weights.items() if name not in new}
        self.load_state_dict(stored, strict=not new)
        self.new = new
