"""Models of PyTorch as ones that take arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..hardware import Precision as PrecisionName
from ..hardware import detect
from ..models.hub import Network
from ..train.precision import Precision


class InTorch:
    """A network on this machine's device, which does not learn.

    Args:
        model: the network.
        precision: of its matrix products.
    """

    def __init__(self, model: Network, precision: PrecisionName) -> None:
        self._device = detect().device
        self._model: Any = model.to(self._device).eval()
        self._precision = Precision(precision, self._device)

    @torch.inference_mode()
    def loss(self, tokens_BT: NDArray[np.integer[Any]], targets_BT: NDArray[np.int64]) -> float:
        """The sum of the cross entropies, in nats, of all targets that are not -100."""
        with self._precision.autocast():
            total = self._model.loss(self._put(tokens_BT), self._put(targets_BT))
        return float(total)

    @torch.inference_mode()
    def probabilities(self, tokens_BT: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """The probability of each class (B, K)."""
        with self._precision.autocast():
            logits_BK = self._model(self._put(tokens_BT))
        probabilities_BK: NDArray[np.float64] = logits_BK.double().softmax(1).cpu().numpy()
        return probabilities_BK

    def _put(self, array: NDArray[np.integer[Any]]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)
