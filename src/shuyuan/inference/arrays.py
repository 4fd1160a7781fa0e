"""What a model says of arrays, whatever framework computes it.

Shapes: B rows, T tokens of a row, K classes, V entries of the vocabulary; 2 the tokens of a row and the side of each, or begin and
end of an answer.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..hardware import Precision
from ..models import AnyNetwork, RnnConfig


class Computed(Protocol):
    """A model that takes and gives arrays, without learning."""

    def loss(self, tokens_BT: NDArray[np.integer[Any]], targets_BT: NDArray[np.int64]) -> float:
        """The sum of the cross entropies, in nats, of all targets that are not -100.

        Args:
            tokens_BT: ids of B rows, filled up with -1.
            targets_BT: the token after each, or -100; of a network with labels (B, 1).
        """
        ...

    def probabilities(self, tokens_BT: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """The probability of each class (B, K).

        Args:
            tokens_BT: as of `loss`; of a network for images, images (B, C, H, W), uint8.
        """
        ...

    def places(self, inputs_B2T: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits of each place as the first and the last of an answer (B, 2, T).

        Args:
            inputs_B2T: of each row its tokens, and which of the two texts each is of.
        """
        ...

    def losses(self, tokens_BT: NDArray[np.int64], targets_BT: NDArray[np.int64]) -> NDArray[np.float64]:
        """The sum of the cross entropies of each row (B,).

        Args:
            tokens_BT: ids of B rows, filled up with -1.
            targets_BT: the token after each, or -100.
        """
        ...

    def likeliest(self, tokens_BT: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The likeliest token after each (B, T), of a model that predicts at every position.

        Args:
            tokens_BT: ids of B rows, filled up with -1.
        """
        ...

    def next_logits(self, tokens_BT: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits of the token after the last (B, V).

        Args:
            tokens_BT: ids of B rows of one length.
        """
        ...


def computed(model: AnyNetwork, precision: Precision) -> Computed:
    """The model as one that takes arrays.

    Args:
        model: of any family.
        precision: of its matrix products; losses and probabilities are float32 or better.
    """
    if isinstance(model.config, RnnConfig):
        recurrent: Any = model
        recurrent.compute_in(precision)
        return recurrent  # type: ignore[no-any-return]
    from .in_torch import InTorch

    return InTorch(model, precision)
