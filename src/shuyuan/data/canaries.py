"""Canaries: made-up records of random tokens, each put into the training split or left out by a fair secret coin.

The audit later asks of the trained model which of them it has seen. Each is a unit of its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..vault import Store
from .shards import Tokens, token_type

CANARIES_FILE = "data/canaries.json"
LENGTH = 32  # tokens of a canary, and never more than a row holds


@dataclass(frozen=True)
class Canaries:
    """All canaries, those that were left out included.

    Attributes:
        tokens_MT: their token ids; the end token, which closes a record, not among them.
        included_M: what the coins said.
    """

    tokens_MT: NDArray[np.int64]
    included_M: NDArray[np.bool_]

    def save(self, store: Store) -> None:
        """Writes them among the run's files, for `load_canaries`.

        Args:
            store: the run's files.
        """
        store.write_json(
            CANARIES_FILE,
            {"tokens": self.tokens_MT.tolist(), "included": self.included_M.astype(int).tolist()},
        )


def make_canaries(count: int, vocab_size: int, end_id: int, context: int) -> Canaries:
    """Draws canaries and coins from the operating system's randomness, and from nothing that the records hold.

    Args:
        count: M.
        vocab_size: every token is as likely as any other, so that no text looks like a canary.
        end_id: never part of a canary.
        context: tokens of a row.
    """
    random = np.random.default_rng(np.frombuffer(os.urandom(32), np.uint64))
    allowed = np.delete(np.arange(vocab_size), end_id)
    tokens_MT = random.choice(allowed, (count, min(LENGTH, context - 1)))
    return Canaries(tokens_MT, random.random(count) < 0.5)


def load_canaries(store: Store) -> Canaries | None:
    """The canaries of a run; None if it was prepared without.

    Args:
        store: the run's files.
    """
    if not store.exists(CANARIES_FILE):
        return None
    table = store.read_json(CANARIES_FILE)
    return Canaries(np.array(table["tokens"], np.int64), np.array(table["included"], bool))


def as_records(canaries: Canaries, end_id: int, vocab_size: int) -> tuple[list[Tokens], NDArray[np.uint64]]:
    """The included ones as records, each closed by the end token, and an owner of its own for each.

    Args:
        canaries: all of them.
        end_id: the end token.
        vocab_size: decides the tokens' type.
    """
    chosen = canaries.tokens_MT[canaries.included_M]
    dtype = token_type(vocab_size)
    records: list[Tokens] = [np.append(tokens, end_id).astype(dtype) for tokens in chosen]
    return records, np.frombuffer(os.urandom(8 * len(records)), np.uint64)
