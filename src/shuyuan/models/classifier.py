"""The transformer with a head that tells classes apart: the layout of Qwen3ForSequenceClassification.

Shapes: B sequences, T tokens of each, C width of the stream, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .config import TransformerConfig
from .labelled import Labelled
from .transformer import Linear, Stack, init_weights


class Classifier(Labelled):
    """A classifier of texts: token ids in, one logit for each class out.

    Args:
        config: the shape, with `labels`.
        seed: start of the initial weights; None leaves them unset, for a loader.

    Attributes:
        new: as of `Transformer`.
    """

    config: TransformerConfig

    def __init__(self, config: TransformerConfig, seed: int | None = 0) -> None:
        super().__init__(config)
        self.model = Stack(config)
        self.score = Linear(config.width, len(config.labels), bias=False)
        if seed is not None:
            init_weights(self, seed)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits of the classes.

        Args:
            tokens_BT: token ids, int64; rows are filled up with -1 behind their last token.

        Returns:
            logits_BK: read at the last token of each row that is not the end token, where transformers reads them too.
        """
        is_text_BT = (tokens_BT >= 0) & (tokens_BT != self.config.end_id)
        places_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        last_B = (is_text_BT * places_T).argmax(1)
        x_BTC = self.model(tokens_BT.clamp(min=0))
        logits_BK: Tensor = self.score(x_BTC[torch.arange(x_BTC.shape[0], device=x_BTC.device), last_B])
        return logits_BK
