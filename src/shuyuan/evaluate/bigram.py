"""A Kneser-Ney bigram model: the honest baseline that a trained model must beat.

Reference: Kneser and Ney, "Improved backing-off for m-gram language modeling", ICASSP 1995, in the interpolated form of
Chen and Goodman 1998, with one absolute discount.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]


class Bigram:
    """P(next | token), fitted on pairs of neighbouring tokens.

    Args:
        vocab_size: number of token ids.

    Example:
        >>> bigram = Bigram(3)
        >>> bigram.fit([(np.array([0, 1, 0]), np.array([1, 0, 1]))])
        >>> float(bigram.probability(np.array([0]), np.array([1]))[0]) > 0.8
        True
    """

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self._pairs: Tokens = np.zeros(0, np.int64)  # token * vocab_size + next, sorted
        self._counts: Tokens = np.zeros(0, np.int64)

    def fit(self, batches: Iterable[tuple[Tokens, Tokens]]) -> None:
        """Counts pairs of tokens.

        Args:
            batches: (inputs, targets) of equal shape; targets below 0 are passed over.
        """
        for inputs, targets in batches:
            seen = targets >= 0
            self._add(inputs[seen].astype(np.int64) * self.vocab_size + targets[seen])
        self._smooth()

    def _add(self, pairs: Tokens) -> None:
        new, counts = np.unique(pairs, return_counts=True)
        place = np.searchsorted(self._pairs, new)
        known = np.zeros(len(new), bool)
        inside = place < len(self._pairs)
        known[inside] = self._pairs[place[inside]] == new[inside]
        self._counts[place[known]] += counts[known]
        self._pairs = np.insert(self._pairs, place[~known], new[~known])
        self._counts = np.insert(self._counts, place[~known], counts[~known])

    def _smooth(self) -> None:
        once, twice = int((self._counts == 1).sum()), int((self._counts == 2).sum())
        self._discount = once / (once + 2 * twice) if once else 0.5
        first, second = np.divmod(self._pairs, self.vocab_size)
        self._total = np.bincount(first, self._counts, self.vocab_size)  # c(token)
        self._followers = np.bincount(first, minlength=self.vocab_size)  # kinds of next tokens
        before = np.bincount(
            second, minlength=self.vocab_size
        )  # kinds of tokens before: the continuation count
        kinds = max(1, int(before.sum()))
        spared = self._discount * int((before > 0).sum()) / kinds
        self._continuation = np.maximum(before - self._discount, 0) / kinds + spared / self.vocab_size

    def probability(self, inputs: Tokens, targets: Tokens) -> NDArray[np.float64]:
        """P(targets | inputs), element by element; sums to one over all targets.

        Args:
            inputs: token ids.
            targets: token ids, of the same shape.
        """
        pairs = inputs.astype(np.int64) * self.vocab_size + targets
        place = np.minimum(np.searchsorted(self._pairs, pairs), max(0, len(self._pairs) - 1))
        found = self._pairs[place] == pairs if len(self._pairs) else np.zeros(pairs.shape, bool)
        count = np.where(found, self._counts[place], 0) if len(self._pairs) else np.zeros(pairs.shape)
        total = self._total[inputs]
        backoff = np.where(total > 0, self._discount * self._followers[inputs] / np.maximum(total, 1), 1.0)
        direct = np.maximum(count - self._discount, 0) / np.maximum(total, 1)
        return np.asarray(direct + backoff * self._continuation[targets])

    def loss(self, batches: Iterable[tuple[Tokens, Tokens]]) -> float:
        """Mean negative log-likelihood in nats a token over (inputs, targets).

        Args:
            batches: as of `fit`.
        """
        total, tokens = 0.0, 0
        for inputs, targets in batches:
            seen = targets >= 0
            total -= float(np.log(self.probability(inputs[seen], targets[seen])).sum())
            tokens += int(seen.sum())
        return total / max(1, tokens)
