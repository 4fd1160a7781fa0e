"""Generation: learn a text and continue one. The whole record is learned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .base import TASKS, Example, Piece, Task, text_field
from .measures import distinct, repetition


class Generation(Task):
    """Text in, more text out; the measure is the loss and, free of the tokenizer, bits per byte."""

    name = "generation"
    command = ("generate", "")
    outputs = ("tokens",)

    def columns(self, fields: Mapping[str, str]) -> list[str]:
        return [fields[name] for name in ("text", "title") if name in fields]

    def lacking(self, row: Mapping[str, Any], fields: Mapping[str, str]) -> str | None:
        if "title" in fields and row.get(fields["title"], "") is None:
            return "a title"
        return super().lacking(row, fields)

    def example(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> Example:
        text = text_field(row, fields["text"], where)
        if "title" in fields:
            text = under(text_field(row, fields["title"], where)) + text
        return Example((Piece(text),))

    def metrics(self, loss: float, tokens: int, text_bytes: int) -> dict[str, float]:
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "bits_per_byte": loss / math.log(2) * tokens / max(1, text_bytes),
        }

    def text_scores(self, texts: Sequence[str]) -> dict[str, float]:
        """How much of the texts repeats itself, and how many of their words and pairs of words are different ones.

        Args:
            texts: what the model wrote to prompts of its own.

        Returns:
            {repetition, distinct_1, distinct_2}, each from 0 to 1.
        """
        return {
            "repetition": repetition(texts),
            "distinct_1": distinct(texts, 1),
            "distinct_2": distinct(texts, 2),
        }


def under(title: str) -> str:
    """What a text with that title begins with.

    Args:
        title: spaces around it are dropped.
    """
    return f"{title.strip()}\n\n"


TASKS[Generation.name] = Generation()
