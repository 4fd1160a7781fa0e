"""How many texts fit beside a model, from plans."""

from __future__ import annotations

from .page import Page, median
from .running import Finished


def texts_beside_weights(run: Finished) -> float:
    return float(run.result["serving"]["variants"]["original"]["texts"])


PAGE = Page(
    {
        "grouped-token": median(lambda run: run.result["serving"]["kv_bytes_per_token"]),
        "grouped-texts": median(texts_beside_weights),
        "plain-token": median(lambda run: run.result["serving"]["kv_bytes_per_token"]),
        "plain-texts": median(texts_beside_weights),
        "one-texts": median(texts_beside_weights),
        "long-texts": median(texts_beside_weights),
    },
)
