"""Summarization: a long text in, a short one out that says what matters; also a title from an abstract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import TASKS, Example, Piece
from .languages import by_language, filled, joined
from .prompted import START, Asking, Fits, Prompted, answered, field, given, markup


class Summarization(Prompted):
    """The text, a line that asks, and the summary. A text that is too long is shortened at its end."""

    name = "summarization"
    needs = ("text", "summary")

    def example(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> Example:
        text = field(row, fields, "text", where)
        return answered(self.prompt(text), field(row, fields, "summary", where))

    def prompt(self, text: str) -> tuple[Piece, ...]:
        """What the model is given to summarize a text."""
        return START, given(text, cut="end"), markup(by_language(text, "\n\nSummary: ", "\n\n摘要："))

    def asking(self, text: str, fits: Fits) -> Asking[str]:
        """The summary of a text of any length: of a long one its parts are summarized, and then their summaries."""
        while True:
            parts = filled(text, lambda part: fits(self.prompt(part)))
            summaries = yield [self.prompt(part) for part in parts]
            together = joined(summaries, text)
            if len(parts) == 1 or len(together) >= len(text):
                return together
            text = together


TASKS[Summarization.name] = Summarization()
