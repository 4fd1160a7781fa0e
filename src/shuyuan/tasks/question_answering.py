"""Question answering: a question and a text in, the answer as the text has it out, or that it is not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError
from .base import TASKS, Example, Piece
from .extractive import nearest_sentence
from .languages import by_language, filled
from .measures import best, exact, interval, overlap, with_interval
from .prompted import Asking, Case, Fits, Prompted, answered, field, given, markup, memory_of

NOWHERE = ("not in the text", "文中没有答案")  # the answer where there is none, in English and Chinese


class QuestionAnswering(Prompted):
    """The text, the question, and its answer. A text that is too long is shortened around the answer.

    Records have a question, an answer and, unless they are pairs, a context; or they are in SQuAD's format, in which an
    article holds paragraphs and these hold questions.
    """

    name = "question-answering"
    command = ("answer", " --context FILE")
    needs = ("question", "answer")
    measure = "f1"
    near_repeats = False  # questions about one text share nearly all their words

    def columns(self, fields: Mapping[str, str]) -> list[str]:
        return [*super().columns(fields), *([fields["context"]] if "context" in fields else [])]

    def records(
        self, row: Mapping[str, Any], fields: Mapping[str, str], where: str
    ) -> Iterator[tuple[Mapping[str, Any], str]]:
        """Each question of an article in SQuAD's format, with the article's other columns; else the row itself."""
        if "paragraphs" in row:
            yield from _of_article(row, fields, where)
        elif fields["answer"] not in row and "answers" in row:
            answer = _first(row["answers"], where)
            yield dict(row) | {fields["answer"]: answer, "is_impossible": answer is None}, where
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
        answer = nowhere(question) if impossible else field(row, fields, "answer", where)
        keep = _place(context or "", answer)
        return answered(self.prompt(question, context, keep), answer)

    def right(self, row: Mapping[str, Any], fields: Mapping[str, str], example: Example) -> list[str]:
        others = row.get("answers")
        texts = others.get("text") if isinstance(others, dict) else others
        told = [each.get("text") if isinstance(each, dict) else each for each in texts or []]
        return [*super().right(row, fields, example), *(each for each in told if isinstance(each, str))]

    def score(self, answer: str, right: Sequence[str]) -> float:
        return best(overlap, answer, right)

    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> dict[str, float]:
        """Exact match and F1 of words, as SQuAD has them, from 0 to 1; of Chinese by character."""
        pairs = list(zip(answers, cases, strict=True))
        told: dict[str, float] = {}
        for name, measure in (("exact_match", exact), ("f1", overlap)):
            told |= with_interval(name, interval([best(measure, said, case.right) for said, case in pairs]))
        return told

    def baselines(self, cases: Sequence[Case], training: Sequence[Case]) -> dict[str, list[str]]:
        """The sentence of the context that shares most words with the question; of pairs the answer to the most similar one."""
        if all(len(case.texts) > 1 for case in cases):
            return {"sentence": [nearest_sentence(case.texts[0], case.texts[-1]) for case in cases]}
        return {"memory": memory_of(cases, training)} if training else {}

    def asking(self, question: str, fits: Fits, context: str | None = None) -> Asking[Answer]:
        """The answer from a context of any length: of a long one each part is asked, and the first answer that stands in its part
        is taken."""
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

    def prompt(
        self, question: str, context: str | None = None, keep: tuple[int, int] | None = None
    ) -> tuple[Piece, ...]:
        """What the model is given to answer a question.

        Args:
            question: the question.
            context: the text that may hold the answer; None: the model answers by what it learned.
            keep: characters of the context that stay when it is shortened.
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
    """What is said when the text does not hold the answer, in the language of the question."""
    return by_language(question, *NOWHERE)


def _place(context: str, answer: str) -> tuple[int, int] | None:
    """Where the answer stands in the text; None where it does not."""
    start = context.find(answer)
    return None if start < 0 else (start, start + len(answer))


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
            answer = None if impossible else _first(_value(each, "answers", at), at)
            found |= {"answer": answer, "answers": each.get("answers"), "is_impossible": answer is None}
            yield others | {fields.get(name, name): value for name, value in found.items()}, at


def _first(answers: Any, where: str) -> str | None:
    """The first of the right answers, as SQuAD writes them or the hub's tables do; None where there is none."""
    if isinstance(answers, dict):
        answers = answers.get("text")
    if not isinstance(answers, list):
        raise _not_squad("`answers` is no list", where)
    if not answers:
        return None
    first = answers[0].get("text") if isinstance(answers[0], dict) else answers[0]
    if not isinstance(first, str):
        raise _not_squad("an answer is no text", where)
    return first


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
