"""A classifier of texts by their n-grams: a vector for each, summed, and a head.

What stands next to what is all that it sees, and for telling labels apart that is much: it learns in seconds what a
transformer from scratch does not learn in minutes.

Reference: Joulin et al. 2016, Bag of tricks for efficient text classification (arXiv 1607.01759).

Shapes: B rows of a batch, T tokens of a row, S n-grams of a row, C width of the table, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .labelled import Labelled
from .ngram_config import NgramConfig
from .transformer import Linear

# Odd constants of 64 bits, the first the golden ratio's, both of splitmix64 (Steele, Lea and Flood 2014); as torch's
# int64 has them.
MULTIPLIER, MIXER = 0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64
DROPPED = 0.7  # docs/lab-notes.md
NOTHING = 0  # the row of the table for no n-gram


class NgramClassifier(Labelled):
    """A classifier of texts: token ids in, one logit for each class out.

    The vectors of all n-grams of 1 to `longest` tokens are summed and divided by the root of their number. N-grams are
    hashed to rows of the table, so that no vocabulary is learned from records; some share a row.

    Args:
        config: the shape.
        seed: start of the head's initial weights; the table starts at zero, so that an n-gram that was never seen says nothing.

    Attributes:
        new: as of `Transformer`.
        dropped: the share of a row's n-grams that a training step leaves out; noise needs none beside it.
    """

    config: NgramConfig

    def __init__(self, config: NgramConfig, seed: int = 0) -> None:
        super().__init__(config)
        self.dropped = DROPPED
        self.table = Table(config.rows, config.width, mode="sum", padding_idx=NOTHING)
        self.score = Linear(config.width, len(config.labels))
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            head = torch.empty(self.score.weight.shape)
            self.score.weight.copy_(head.normal_(0.0, config.width**-0.5, generator=generator))
            self.score.bias.zero_()

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits of the classes (B, K).

        Args:
            tokens_BT: token ids, int64; rows are filled up with -1 behind their last token.
        """
        rows_BS = table_rows(tokens_BT, self.config.longest, self.config.rows)
        scale_B1 = (rows_BS != NOTHING).sum(1, keepdim=True).clamp(min=1).rsqrt()
        if self.training and self.dropped:
            kept_BS = torch.rand(rows_BS.shape, device=rows_BS.device) >= self.dropped
            rows_BS, scale_B1 = rows_BS * kept_BS, scale_B1 / (1 - self.dropped)
        logits_BK: Tensor = self.score(self.table(rows_BS) * scale_B1)
        return logits_BK


class Table(nn.EmbeddingBag):
    """A table of rows that starts at zero."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)


def table_rows(tokens_BT: Tensor, longest: int, rows: int) -> Tensor:
    """The row of the table for each n-gram of each text.

    The hash of n tokens is that of the first n - 1 of them times MULTIPLIER, plus the last token + 1 times MIXER; it is mixed
    as splitmix64 begins to, and taken modulo rows - 1, plus 1. All in whole numbers of 64 bits that wrap around: the same on
    every machine.

    Args:
        tokens_BT: token ids, int64, -1 where no token stands.
        longest: tokens of the longest n-gram.
        rows: of the table.

    Returns:
        rows_BS: first of the n-grams of one token by their place, then of two, …; NOTHING where one does not lie wholly in the text.
    """
    inside_BT = whole_BT = tokens_BT >= 0
    token_BT = (tokens_BT + 1) * MIXER
    hash_BT = torch.zeros_like(tokens_BT)
    found = []
    for _ in range(longest):
        hash_BT = hash_BT * MULTIPLIER + token_BT
        mixed_BT = (hash_BT ^ (hash_BT >> 29)) * MULTIPLIER
        mixed_BT = (mixed_BT ^ (mixed_BT >> 32)) & (2**63 - 1)
        found.append((mixed_BT % (rows - 1) + 1) * whole_BT)
        hash_BT, whole_BT = _behind(hash_BT), _behind(whole_BT) & inside_BT
    return torch.cat(found, 1)


def _behind(x_BT: Tensor) -> Tensor:
    """What stands at each place's left neighbour; zero at the first."""
    return F.pad(x_BT, (1, 0))[:, :-1]
