"""Models of PyTorch as ones that take arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..hardware import Precision as PrecisionName
from ..models.hub import Network
from ..models.room import device_for
from ..train.precision import Precision


class InTorch:
    """A network on this machine's device, or the CPU where that has no room for it; it does not learn.

    Args:
        model: the network.
        precision: of its matrix products.
    """

    def __init__(self, model: Network, precision: PrecisionName) -> None:
        self._device = device_for(model)
        self._model: Any = model.to(self._device).eval()
        self._precision = Precision(precision, self._device)

    @torch.inference_mode()
    def loss(self, tokens_BT: NDArray[np.integer[Any]], targets_BT: NDArray[np.int64]) -> float:
        """The sum of the cross entropies, in nats, of all targets that are not -100.

        Args:
            tokens_BT: ids of B rows of T tokens.
            targets_BT: what stands after each; -100 is not counted.
        """
        with self._precision.autocast():
            total = self._model.loss(self._put(tokens_BT), self._put(targets_BT))
        return float(total)

    @torch.inference_mode()
    def losses(self, tokens_BT: NDArray[np.int64], targets_BT: NDArray[np.int64]) -> NDArray[np.float64]:
        """The sum of the cross entropies of each row (B,).

        Args:
            tokens_BT, targets_BT: as of `loss`.

        Returns:
            In nats, float64.
        """
        with self._precision.autocast():
            losses_BT = self._model.losses(self._put(tokens_BT), self._put(targets_BT))
        summed: NDArray[np.float64] = losses_BT.sum(1).double().cpu().numpy()
        return summed

    @torch.inference_mode()
    def next_logits(self, tokens_BT: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits of the token after the last (B, V).

        Args:
            tokens_BT: ids of B rows of T tokens.
        """
        with self._precision.autocast():
            logits_BV = self._model(self._put(tokens_BT))[:, -1]
        found: NDArray[np.float32] = logits_BV.float().cpu().numpy()
        return found

    @torch.inference_mode()
    def likeliest(self, tokens_BT: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The likeliest token after each (B, T).

        Args:
            tokens_BT: ids of B rows of T tokens.
        """
        with self._precision.autocast():
            logits_BTV = self._model(self._put(tokens_BT))
        found: NDArray[np.int64] = logits_BTV.argmax(-1).cpu().numpy()
        return found

    @torch.inference_mode()
    def probabilities(self, tokens_BT: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """The probability of each class (B, K), or of each label by itself.

        Args:
            tokens_BT: ids of B rows of T tokens.
        """
        with self._precision.autocast():
            logits_BK = self._model(self._put(tokens_BT))
        logits_BK = logits_BK.double()
        found_BK = logits_BK.sigmoid() if self._model.config.multi_label else logits_BK.softmax(1)
        probabilities_BK: NDArray[np.float64] = found_BK.cpu().numpy()
        return probabilities_BK

    @torch.inference_mode()
    def places(self, inputs_B2T: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits of each place as the first and the last of an answer (B, 2, T).

        Args:
            inputs_B2T: of B rows the ids of T tokens, and of each whether it stands in the text that holds the answer.
        """
        with self._precision.autocast():
            logits_B2T = self._model(self._put(inputs_B2T))
        found: NDArray[np.float32] = logits_B2T.float().cpu().numpy()
        return found

    def _put(self, array: NDArray[np.integer[Any]]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)
