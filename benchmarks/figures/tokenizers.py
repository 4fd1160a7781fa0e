"""How many tokens a text becomes."""

from __future__ import annotations

import json
from typing import Any

from .page import Measure, Page, median
from .running import Finished


def splits(run: Finished) -> list[dict[str, Any]]:
    return list(json.loads((run.folder / "data" / "manifest.json").read_text())["splits"].values())


def tokens_of_text(run: Finished) -> int:
    """Without the one that ends each record."""
    return sum(split["tokens"] - split["records"] for split in splits(run))


def tokens_a_character(characters: str) -> Measure:
    """`characters` is the figure whose run took the same text by characters."""
    return lambda runs, all_runs: tokens_of_text(runs[0]) / tokens_of_text(all_runs[characters][0])


def tokens_a_sentence(run: Finished) -> float:
    return tokens_of_text(run) / sum(split["records"] for split in splits(run))


def vocabulary(run: Finished) -> float:
    return float(json.loads((run.folder / "data" / "manifest.json").read_text())["vocab_size"])


PAGE = Page(
    {
        "en-byte": tokens_a_character("en-chars"),
        "zh-byte": tokens_a_character("zh-chars"),
        "en-chars": median(vocabulary),
        "zh-chars": median(vocabulary),
        "en-bpe": tokens_a_character("en-chars"),
        "zh-bpe": tokens_a_character("zh-chars"),
        "zh-by-en": tokens_a_character("zh-chars"),
        "en-sentence": median(tokens_a_sentence),
        "zh-sentence": median(tokens_a_sentence),
        "zh-sentence-by-en": median(tokens_a_sentence),
    },
    needs={
        "en-byte": ["en-chars"],
        "zh-byte": ["zh-chars"],
        "en-bpe": ["en-chars"],
        "zh-bpe": ["zh-chars"],
        "zh-by-en": ["en-bpe", "zh-chars"],
        "zh-sentence-by-en": ["en-bpe"],
    },
)
