"""Translation: a text in one of two languages in, the same in the other out. One model goes both ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import ShuyuanError
from .base import TASKS, Example, Piece, Setting
from .languages import CHINESE, ENGLISH, filled, joined, language_of, sentences
from .measures import bleu, chrf, chrf_of, with_interval
from .prompted import Asking, Case, Fits, Prompted, answered, field, given, markup, memory_of


class Translation(Prompted):
    """A tag that says the direction, the text, and its translation.

    Each pair is learned both ways; it is one record all the same. A pair that does not fit is left out: half of a text has no
    translation among the records.

    Args:
        languages: of the source and the target column. None: English and Chinese, told from each text.
    """

    name = "translation"
    command = ("translate", " --to LANGUAGE")
    needs = ("source_text", "target")
    measure = "chrf"
    libraries = ("sacrebleu",)

    def __init__(self, languages: tuple[str, str] | None = None) -> None:
        self._languages = languages

    @property
    def languages(self) -> tuple[str, str]:
        """The two languages that it knows."""
        return self._languages or (ENGLISH, CHINESE)

    def configured(self, setting: Setting) -> Translation:
        return Translation(setting.languages)

    def records(
        self, row: Mapping[str, Any], fields: Mapping[str, str], where: str
    ) -> Iterator[tuple[Mapping[str, Any], str]]:
        """The row itself, or what stands in the hub's `translation: {en, zh}`.

        Args:
            row: column to value.
            fields: the recipe's column of each field.
            where: the row's place, for errors.
        """
        nested = row.get("translation")
        yield {**row, **nested} if isinstance(nested, dict) else row, where

    def example(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> Example:
        return self.examples(row, fields, where)[0]

    def examples(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> list[Example]:
        source, target = (field(row, fields, name, where) for name in self.needs)
        to = self.languages[1] if self._languages else self._other(language_of(source))
        there = answered(self.prompt(source, to), target)
        return [there, answered(self.prompt(target, self._other(to)), source)]

    def prompt(self, text: str, to: str) -> tuple[Piece, ...]:
        """What the model is given to translate a text.

        Args:
            text: a sentence or a few.
            to: the language wanted; the text is in the other one.

        Raises:
            ShuyuanError: the model was trained for other languages.
        """
        if to not in self.languages:
            raise ShuyuanError(
                "inference.other-language",
                f"The model does not translate to `{to}`.",
                mend=f"Ask for {' or '.join(self.languages)}.",
            )
        return *self.opening, markup(f"{self._other(to)}>{to}: "), given(text), markup("\n")

    def wanted(self, case: Case) -> str:
        return f" --to {_direction(case.asks)[1]}"

    def score(self, answer: str, right: Sequence[str]) -> float:
        return max(chrf_of(answer, each) for each in right)

    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> dict[str, float]:
        """BLEU and chrF of each direction, such as bleu_en_zh.

        Args:
            cases, answers: as of `Prompted.scores`.

        Returns:
            bleu_FROM_TO and chrf_FROM_TO from 0 to 100, each with its interval as NAME_low and NAME_high.
        """
        told: dict[str, float] = {}
        for direction in sorted({case.asks for case in cases}):
            pairs = [
                (answer, case.right[0])
                for case, answer in zip(cases, answers, strict=True)
                if case.asks == direction
            ]
            said, right = zip(*pairs, strict=True)
            source, to = _direction(direction)
            name = f"{source}_{to}".lower().replace("-", "_")
            told |= with_interval(f"bleu_{name}", bleu(said, right, to))
            told |= with_interval(f"chrf_{name}", chrf(said, right))
        return told

    def baselines(self, cases: Sequence[Case], training: Sequence[Case]) -> dict[str, list[str]]:
        """A translation memory: what stands beside the most similar text of the training records.

        Args:
            cases, training: as of `Prompted.baselines`.

        Returns:
            {memory}; nothing where a direction has no training record.
        """
        found: dict[int, str] = {}
        for direction in {case.asks for case in cases}:
            there = [case for case in training if case.asks == direction]
            asked = [number for number, case in enumerate(cases) if case.asks == direction]
            if there:
                found |= zip(asked, memory_of([cases[number] for number in asked], there), strict=True)
        return {"memory": [found[number] for number in range(len(cases))]} if len(found) == len(cases) else {}

    def asking(self, text: str, fits: Fits, to: str) -> Asking[str]:
        """The translation of a text of any length, sentence by sentence; empty lines and line ends stay.

        Args:
            text: what is to be translated.
            fits: whether a prompt leaves room for an answer.
            to: the language wanted, such as "zh".

        Raises:
            ShuyuanError: the model was trained for other languages.
        """
        lines = text.split("\n")
        parts = [
            [
                piece
                for each in sentences(line)
                for piece in filled(each, lambda part: fits(self.prompt(part, to)))
            ]
            for line in lines
        ]
        told = iter((yield [self.prompt(part, to) for line in parts for part in line]))
        return "\n".join(joined([next(told) for _ in line], to=to) for line in parts)

    def _other(self, language: str) -> str:
        one, other = self.languages
        return other if language == one else one


TASKS[Translation.name] = Translation()


def _direction(asks: str) -> tuple[str, str]:
    """The two languages of a prompt's words, such as `en>zh: `."""
    source, to = asks.removesuffix(": ").split(">")
    return source, to
