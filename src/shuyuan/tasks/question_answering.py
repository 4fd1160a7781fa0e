"""Question answering: a question and a text in, the answer as the text has it out, or that it is not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError
from .base import TASKS, Example, Output, Piece, Setting
from .extractive import nearest_sentence, place_of
from .languages import by_language, filled
from .measures import best, exact, interval, overlap, with_interval
from .prompted import Asking, Case, Fits, Prompted, answered, field, given, markup, memory_of

NOWHERE = ("not in the text", "文中没有答案")  # the answer where there is none, in English and Chinese


class QuestionAnswering(Prompted):
    """The text, the question, and its answer. A text that is too long is shortened around the answer.

    Records have a question, an answer and, unless they are pairs, a context; or they are in SQuAD's format, in which an
    article holds paragraphs and these hold questions. A model either writes the answer, or points to it in the text.

    Args:
        output: which of the two.
    """

    name = "question-answering"
    outputs = ("tokens", "spans")
    command = ("answer", " --context FILE")
    needs = ("question", "answer")
    measure = "f1"
    near_repeats = False  # questions about one text share nearly all their words

    def __init__(self, output: Output = "tokens") -> None:
        self._output = output

    @property
    def output(self) -> Output:
        return self._output

    def configured(self, setting: Setting) -> QuestionAnswering:
        return QuestionAnswering(setting.output or self._output)

    def columns(self, fields: Mapping[str, str]) -> list[str]:
        return [*super().columns(fields), *([fields["context"]] if "context" in fields else [])]

    def records(
        self, row: Mapping[str, Any], fields: Mapping[str, str], where: str
    ) -> Iterator[tuple[Mapping[str, Any], str]]:
        """Each question of an article in SQuAD's format, with the article's other columns; else the row itself.

        Args:
            row: column to value.
            fields: the recipe's column of each field.
            where: the row's place, for errors.

        Raises:
            DataError: the article is not laid out as SQuAD's are.
        """
        if "paragraphs" in row:
            yield from _of_article(row, fields, where)
        elif fields["answer"] not in row and "answers" in row:
            answer, start = _first(row["answers"], where)
            found = {fields["answer"]: answer, "answer_start": start, "is_impossible": answer is None}
            yield dict(row) | found, where
        else:
            yield row, where

    def lacking(self, row: Mapping[str, Any], fields: Mapping[str, str]) -> str | None:
        context = fields.get("context", "context")
        value = row.get(context, "something")
        if value is None or (isinstance(value, str) and not value.strip()):
            return "context"
        if row.get("is_impossible") is True:
            return None
        return super().lacking(row, fields)

    def example(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> Example:
        question = field(row, fields, "question", where)
        context = None
        if "context" in fields or "context" in row:
            context = field(row, {"context": "context"} | dict(fields), "context", where)
        impossible = row.get("is_impossible") is True
        if impossible:
            return answered(self.prompt(question, context, (0, 0)), nowhere(question))
        answer = field(row, fields, "answer", where)
        keep = place_of(context or "", answer, _said(row.get("answer_start")))
        return answered(self.prompt(question, context, keep), answer)

    def right(self, row: Mapping[str, Any], fields: Mapping[str, str], example: Example) -> list[str]:
        others = row.get("answers")
        texts = others.get("text") if isinstance(others, dict) else others
        told = [each.get("text") if isinstance(each, dict) else each for each in texts or []]
        return [*super().right(row, fields, example), *(each for each in told if isinstance(each, str))]

    def score(self, answer: str, right: Sequence[str]) -> float:
        return best(overlap, answer, right)

    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> dict[str, float]:
        """Exact match and F1 of words, as SQuAD has them, from 0 to 1; of Chinese by character.

        Args:
            cases, answers: as of `Prompted.scores`.

        Returns:
            {exact_match, f1}, each with its interval as NAME_low and NAME_high.

        Reference:
            Rajpurkar et al., "SQuAD", EMNLP 2016.
        """
        told: dict[str, float] = {}
        for name, values in self.values(cases, answers).items():
            told |= with_interval(name, interval(values))
        return told

    def values(self, cases: Sequence[Case], answers: Sequence[str]) -> dict[str, list[float]]:
        pairs = list(zip(answers, cases, strict=True))
        return {
            name: [best(measure, said, case.right) for said, case in pairs]
            for name, measure in (("exact_match", exact), ("f1", overlap))
        }

    def metrics(self, loss: float, tokens: int, text_bytes: int) -> dict[str, float]:
        """As of all tasks with answers; of places in a text the loss alone, of each answer's first token and its last.

        Args:
            loss, tokens, text_bytes: as of `Prompted.metrics`.
        """
        return {"loss": loss} if self.output == "spans" else super().metrics(loss, tokens, text_bytes)

    def baselines(self, cases: Sequence[Case], training: Sequence[Case]) -> dict[str, list[str]]:
        """The sentence of the context that shares most words with the question; of pairs the answer to the most similar one.

        Args:
            cases, training: as of `Prompted.baselines`.

        Returns:
            {sentence} where all cases have a context, else {memory}.
        """
        if all(len(case.texts) > 1 for case in cases):
            return {"sentence": [nearest_sentence(case.texts[0], case.texts[-1]) for case in cases]}
        return {"memory": memory_of(cases, training)} if training else {}

    def asking(self, question: str, fits: Fits, context: str | None = None) -> Asking[Answer]:
        """The answer from a context of any length: of a long one each part is asked, and the first answer that stands in its part
        is taken.

        Args:
            question: the question.
            fits: whether a prompt leaves room for an answer.
            context: the text that may hold the answer; None: the model answers by what it learned.
        """
        if context is None:
            (said,) = yield [self.prompt(question)]
            return Answer(said, bool(said))
        parts = filled(context, lambda part: fits(self.prompt(question, part))) or [""]
        answers = yield [self.prompt(question, part) for part in parts]
        missing = [nowhere(question), *NOWHERE, ""]
        standing = [
            said for said, part in zip(answers, parts, strict=True) if said not in missing and said in part
        ]
        own = [said for said in answers if said not in missing]
        text = next(iter([*standing, *own]), nowhere(question))
        start = context.find(text)
        return Answer(text, bool(own), start if standing and start >= 0 else None)

    def pointed(self, question: str, context: str, place: tuple[int, int] | None) -> Answer:
        """The answer that a place in the context is, in characters; None: it is not there.

        Args:
            question: tells the language in which nothing found is said.
            context: the text.
            place: (start, stop) in characters.
        """
        if place is None:
            return Answer(nowhere(question), False)
        start, stop = place
        text = context[start:stop]
        return Answer(text.strip(), True, start + len(text) - len(text.lstrip()))

    def prompt(
        self, question: str, context: str | None = None, keep: tuple[int, int] | None = None
    ) -> tuple[Piece, ...]:
        """What the model is given to answer a question.

        Args:
            question: the question.
            context: the text that may hold the answer; None: the model answers by what it learned.
            keep: characters of the context that stay when it is shortened: the answer; (0, 0): it holds none.
        """
        asks = markup(by_language(question, "Question: ", "问题："))
        answers = markup(by_language(question, "\nAnswer: ", "\n回答："))
        if context is None:
            return *self.opening, asks, given(question), answers
        before = markup(by_language(question, "Text: ", "文本："))
        text = given(context, cut="end", keep=keep)
        return *self.opening, before, text, markup("\n"), asks, given(question), answers


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        text: what the model says.
        found: whether it is an answer, not that there is none.
        start: where it stands in the context, in characters; None where the words are the model's own.
    """

    text: str
    found: bool
    start: int | None = None


def nowhere(question: str) -> str:
    """What is said when the text does not hold the answer, in the language of the question.

    Args:
        question: the question.
    """
    return by_language(question, *NOWHERE)


def _said(start: Any) -> int:
    """Where a record says that its answer begins; where it says nothing, the first place of all is as good."""
    return max(0, start) if isinstance(start, int) else 0


def _of_article(
    article: Mapping[str, Any], fields: Mapping[str, str], where: str
) -> Iterator[tuple[Mapping[str, Any], str]]:
    others = {name: value for name, value in article.items() if name != "paragraphs"}
    for number, paragraph in enumerate(_list(article["paragraphs"], "paragraphs", where), 1):
        place = f"{where}, paragraph {number}"
        context = _value(paragraph, "context", place)
        for count, each in enumerate(_list(_value(paragraph, "qas", place), "qas", place), 1):
            at = f"{place}, question {count}"
            found = {"question": _value(each, "question", at), "context": context}
            impossible = each.get("is_impossible") is True
            answer, start = (None, None) if impossible else _first(_value(each, "answers", at), at)
            found |= {"answer": answer, "answer_start": start, "answers": each.get("answers")}
            found["is_impossible"] = answer is None
            yield others | {fields.get(name, name): value for name, value in found.items()}, at


def _first(answers: Any, where: str) -> tuple[str | None, Any]:
    """The first of the right answers and where it begins, as SQuAD writes them or the hub's tables do; None where there is none."""
    starts: Any = None
    if isinstance(answers, dict):
        answers, starts = answers.get("text"), answers.get("answer_start")
    if not isinstance(answers, list):
        raise _not_squad("`answers` is no list", where)
    if not answers:
        return None, None
    first: Any = answers[0]
    start = starts[0] if isinstance(starts, list) and starts else None
    if isinstance(first, dict):
        first, start = first.get("text"), first.get("answer_start")
    if not isinstance(first, str):
        raise _not_squad("an answer is no text", where)
    return first, start


def _value(table: Any, key: str, where: str) -> Any:
    if not isinstance(table, dict) or key not in table:
        raise _not_squad(f"`{key}` is missing", where)
    return table[key]


def _list(value: Any, key: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _not_squad(f"`{key}` is no list", where)
    return value


def _not_squad(why: str, where: str) -> DataError:
    return DataError(
        "data.not-squad",
        f"The article is not in SQuAD's format: {why}.",
        where=where,
        mend="Write paragraphs with a context and qas, or one question, context and answer a record.",
    )


TASKS[QuestionAnswering.name] = QuestionAnswering()
