"""Summarization: a long text in, a short one out that says what matters; also a title from an abstract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .base import TASKS, Example, Piece
from .extractive import lead, text_rank
from .languages import by_language, filled, joined
from .measures import interval, rouge, with_interval
from .prompted import Asking, Case, Fits, Prompted, answered, field, given, markup


class Summarization(Prompted):
    """The text, a line that asks, and the summary. A text that is too long is shortened at its end."""

    name = "summarization"
    command = ("summarize", "")
    needs = ("text", "summary")
    measure = "rouge_l"
    libraries = ("rouge_score",)

    def example(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> Example:
        text = field(row, fields, "text", where)
        several = self._several(row, fields)
        return answered(self.prompt(text), several[0] if several else field(row, fields, "summary", where))

    def right(self, row: Mapping[str, Any], fields: Mapping[str, str], example: Example) -> list[str]:
        return self._several(row, fields) or super().right(row, fields, example)

    def _several(self, row: Mapping[str, Any], fields: Mapping[str, str]) -> list[str]:
        """The summaries of a record that has a list of them: each is as right, and the first is learned."""
        value = row.get(fields["summary"])
        return (
            [each.strip() for each in value if isinstance(each, str) and each.strip()]
            if isinstance(value, list)
            else []
        )

    def prompt(self, text: str) -> tuple[Piece, ...]:
        """What the model is given to summarize a text.

        Args:
            text: of any length; it is shortened at its end.
        """
        return *self.opening, given(text, cut="end"), markup(by_language(text, "\n\nSummary: ", "\n\n摘要："))

    def score(self, answer: str, right: Sequence[str]) -> float:
        return max(rouge(answer, each)["rouge_l"] for each in right)

    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> dict[str, float]:
        """ROUGE-1, -2 and -L, as F from 0 to 1; of several summaries the one with the largest ROUGE-L counts.

        Args:
            cases, answers: as of `Prompted.scores`.

        Returns:
            {rouge_1, rouge_2, rouge_l}, each with its interval as NAME_low and NAME_high.
        """
        pairs = zip(cases, answers, strict=True)
        found = [
            max((rouge(answer, right) for right in case.right), key=lambda each: each["rouge_l"])
            for case, answer in pairs
        ]
        told = [with_interval(name, interval([each[name] for each in found])) for name in found[0]]
        return {name: value for each in told for name, value in each.items()}

    def baselines(self, cases: Sequence[Case], training: Sequence[Case]) -> dict[str, list[str]]:
        """The text's first sentence, and the one that TextRank finds.

        Args:
            cases, training: as of `Prompted.baselines`; training records tell nothing here.

        Returns:
            {lead, textrank}.
        """
        texts = [case.texts[0] for case in cases]
        return {"lead": [*map(lead, texts)], "textrank": [*map(text_rank, texts)]}

    def asking(self, text: str, fits: Fits) -> Asking[str]:
        """The summary of a text of any length: of a long one its parts are summarized, and then their summaries.

        Args:
            text: what is to be summarized.
            fits: whether a prompt leaves room for an answer.
        """
        while True:
            parts = filled(text, lambda part: fits(self.prompt(part)))
            summaries = yield [self.prompt(part) for part in parts]
            together = joined(summaries, text)
            if len(parts) == 1 or len(together) >= len(text):
                return together
            text = together


TASKS[Summarization.name] = Summarization()
