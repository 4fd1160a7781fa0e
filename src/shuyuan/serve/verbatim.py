"""Answers that repeat a training record word for word: known by digests of every span of so many tokens.

It tells whoever may ask often enough which spans were among the records (Debenedetti et al., "Privacy Side Channels in Machine
Learning Systems", 2023), and so undoes what private training promises: it is refused for private runs.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.stored import StoredRecords
from ..errors import ServeError
from ..pipeline import look, manifest_of

SHORTEST = 16  # tokens; shorter spans are common words


class Verbatim:
    """The spans of a run's training records. They are held in memory alone, eight bytes for each token, under a secret of this process.

    Args:
        rows: tokens of each record.
        span: tokens of a span.
    """

    def __init__(self, rows: Sequence[NDArray[np.integer[Any]]] | list[list[int]], span: int) -> None:
        self.span = span
        random = np.random.default_rng(secrets.randbits(128))
        self._secret = random.integers(0, 2**63, 1, np.uint64)
        self._factor = int(random.integers(0, 2**63, dtype=np.uint64)) * 2 + 1
        found = [self._digests(np.asarray(row)) for row in rows if len(row) >= span]
        self._known = np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)

    def repeats(self, tokens: Sequence[int]) -> bool:
        """Whether the last tokens of an answer are a span of a record."""
        if len(tokens) < self.span or not len(self._known):
            return False
        digest = self._digests(np.asarray(tokens[-self.span :]))
        place = np.searchsorted(self._known, digest)
        return bool(self._known[min(int(place[0]), len(self._known) - 1)] == digest[0])

    def first_of(self, tokens: Sequence[int]) -> int | None:
        """Tokens of an answer that come before the end of the first span of a record in it; None: it has none."""
        ends = range(self.span, len(tokens) + 1)
        return next((end - 1 for end in ends if self.repeats(tokens[:end])), None)

    def _digests(self, row: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
        """Of each span of a row, a sum of its mixed tokens, each with a power of a secret factor, modulo 2**64 (Rabin and Karp)."""
        mixed = (row.astype(np.uint64) + self._secret) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
        sums = np.zeros(len(row) + 1, np.uint64)
        np.cumsum(mixed * _powers(self._factor, len(row)), out=sums[1:])
        count = len(row) - self.span + 1
        return (sums[self.span :] - sums[:count]) * _powers(pow(self._factor, -1, 2**64), count)


def _powers(factor: int, count: int) -> NDArray[np.uint64]:
    """1, the factor, its square and so on, modulo 2**64."""
    powers = np.full(count, factor, np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers)


def verbatim_of(path: Path, key: str | None, span: int) -> Verbatim | None:
    """The spans of a run's training records; None where its model writes no text.

    Args:
        path: the run's folder.
        key: where its vault's key is.
        span: tokens of a span.

    Raises:
        ServeError: the run is private, or the span too short.
    """
    if span < SHORTEST:
        raise ServeError(
            "serve.short-span",
            f"A span of {span} tokens is common in any text.",
            where="--cut-verbatim",
            mend=f"Take at least {SHORTEST}, such as 50.",
        )
    with look(path, key) as job:
        if job.recipe.privacy is not None:
            raise ServeError(
                "serve.verbatim-private",
                "Cutting what repeats records tells which records there are, and this run is private.",
                where=str(path),
                mend="Leave --cut-verbatim out: private training bounds what the model can repeat.",
            )
        manifest = manifest_of(job)
        if manifest.image is not None or manifest.labels:
            return None
        records = StoredRecords(job.store, manifest, "train")
        lengths = records.length_R.tolist()
        return Verbatim([records.read(number, 0, length) for number, length in enumerate(lengths)], span)
