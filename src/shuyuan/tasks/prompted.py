"""What the tasks with a prompt and an answer share: the layout of a row, what of it is learned, and how one is predicted."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, ClassVar, TypeAlias, TypeVar

from .base import Example, Output, Piece, Task, text_field
from .extractive import Memory
from .languages import joined

START = Piece("", learn=False, kind="end")  # the end token of the record before opens a row
END = Piece("", kind="end")

Prompt: TypeAlias = tuple[Piece, ...]
Fits = Callable[[Prompt], bool]  # whether a prompt leaves room for an answer without being shortened
Result = TypeVar("Result")
# What is asked of a model for one input: prompts go out, their answers come in, as often as needed; at the end a result.
Asking: TypeAlias = Generator[list[Prompt], list[str], Result]


@dataclass(frozen=True)
class Case:
    """One prompt of a record with what the record answers.

    Attributes:
        prompt: its pieces, or token ids that were laid out already.
        texts: what the prompt holds of the record, in order; of a chat also the replies before the last.
        asks: the words of the task before the first of them.
        right: the right answers, of which any is as good.
    """

    prompt: Prompt | Sequence[int]
    texts: list[str]
    asks: str
    right: list[str]


class Prompted(Task):
    """A prompt in, an answer out. The loss is the answer's, and that of the end token behind it.

    Attributes:
        needs: the fields without which there is nothing to learn, in the order of the columns.
        measure: what `score` tells of one answer.
        opening: what a row begins with; a mixed model's has a tag in it.
    """

    outputs: ClassVar[tuple[Output, ...]] = ("tokens",)
    prompted = True
    needs: ClassVar[tuple[str, ...]]
    measure: ClassVar[str]
    opening: tuple[Piece, ...] = (START,)

    def columns(self, fields: Mapping[str, str]) -> list[str]:
        return [fields[name] for name in self.needs]

    def wanted(self, case: Case) -> str:
        """What the task's verb wants beside a run and a text, to be asked this once more; as the second of `command`.

        Args:
            case: a prompt.
        """
        return self.command[1]

    def lacking(self, row: Mapping[str, Any], fields: Mapping[str, str]) -> str | None:
        for name in self.needs:
            value = row.get(fields[name], "something")  # a column that is not there is refused later
            if value is None or (isinstance(value, str) and not value.strip()):
                return name.replace("_", " ")
        return None

    @property
    def ending(self) -> tuple[Piece, ...]:
        """What ends an answer."""
        return (END,)

    def right(self, row: Mapping[str, Any], fields: Mapping[str, str], example: Example) -> list[str]:
        """All right answers of a record; the one that is learned comes first.

        Args:
            row: column name to value.
            fields: field name to column name, as the recipe says.
            example: what `example` made of the row.
        """
        learned = [piece.text for piece in example.pieces if piece.learn and piece.kind == "text"]
        return learned[-1:]

    @abstractmethod
    def score(self, answer: str, right: Sequence[str]) -> float:
        """How good one answer is, the higher the better.

        Args:
            answer: what the model said, as `parse` leaves it.
            right: the right answers, one at least; the nearest counts.

        Returns:
            The task's `measure`.
        """

    @abstractmethod
    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> dict[str, float]:
        """Scores of the answers to all cases, with NAME_low and NAME_high where they have an interval.

        Args:
            cases: what was asked, in order; one at least.
            answers: what was said to each.

        Raises:
            ShuyuanError: a library of the extra `tasks` is missing.
        """

    def values(self, cases: Sequence[Case], answers: Sequence[str]) -> dict[str, list[float]]:
        """The scores of each answer, by their names: what two models are compared by.

        Args:
            cases: what was asked, in order.
            answers: what was said to each.

        Returns:
            Name of a score to its value for each case, the higher the better.
        """
        return {
            self.measure: [self.score(said, case.right) for said, case in zip(answers, cases, strict=True)]
        }

    def baselines(self, cases: Sequence[Case], training: Sequence[Case]) -> dict[str, list[str]]:
        """What answers anyone would try first, by the name of the method: from the prompt, or from the training records.

        Args:
            cases: what is asked, in order.
            training: the cases of the training records; none where they are not at hand.

        Returns:
            Name of a method to its answer for each case.
        """
        return {}

    def parse(self, text: str) -> str:
        """The answer in what the model wrote.

        Args:
            text: what the model wrote, without its end token.
        """
        return text.strip()

    def metrics(self, loss: float, tokens: int, text_bytes: int) -> dict[str, float]:
        """As of generation, of the answers alone.

        Args:
            loss: the mean, in nats a token.
            tokens: how many it is the mean of.
            text_bytes: of the answers, in UTF-8.

        Returns:
            {loss, perplexity, bits_per_byte}.
        """
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "bits_per_byte": loss / math.log(2) * tokens / max(1, text_bytes),
        }


def together(askings: Sequence[Asking[Result]], answers: Callable[[list[Prompt]], list[str]]) -> list[Result]:
    """The results of several inputs whose prompts are asked at once, round by round.

    Args:
        askings: one an input, each of which yields prompts and is told their answers.
        answers: what the model says to prompts, in their order.
    """
    results: dict[int, Result] = {}
    sent: dict[int, list[str] | None] = dict.fromkeys(range(len(askings)))
    while sent:
        asked: dict[int, list[Prompt]] = {}
        for number, told in sent.items():
            try:
                asked[number] = next(askings[number]) if told is None else askings[number].send(told)
            except StopIteration as end:
                results[number] = end.value
        found = iter(answers([prompt for prompts in asked.values() for prompt in prompts]))
        sent = {number: [next(found) for _ in prompts] for number, prompts in asked.items()}
    return [results[number] for number in range(len(askings))]


def case_of(example: Example, right: list[str]) -> Case:
    """The case that a row is: its last answer is asked for.

    Args:
        example: pieces that hold one that is not learned.
        right: the right answers.
    """
    last = max(place for place, piece in enumerate(example.pieces) if not piece.learn)
    prompt = example.pieces[: last + 1]
    return Case(
        tuple(Piece(each.text, False, each.kind, each.cut, each.keep, each.turn) for each in prompt),
        [each.text for each in prompt if each.kind == "text"],
        first_words(prompt),
        right,
    )


def first_words(prompt: Iterable[Piece]) -> str:
    """The words of the task before the first text.

    Args:
        prompt: pieces of text.
    """
    return "".join(each.text for each in takewhile(lambda each: each.kind != "text", prompt))


def memory_of(cases: Sequence[Case], training: Sequence[Case]) -> list[str]:
    """To each case the answer of the training record whose last text is most like its own.

    Args:
        cases: what is asked.
        training: the cases to search, one at least.
    """
    memory = Memory([case.texts[-1] for case in training])
    return [training[memory.nearest(case.texts[-1])].right[0] for case in cases]


def given(text: str, **how: Any) -> Piece:
    """A text of the record that the model is given; `how` as in `Piece`.

    Args:
        text: the text; space around it is left out.
        how: kind, cut, keep and turn, as in `Piece`.
    """
    return Piece(text.strip(), learn=False, **how)


def markup(text: str) -> Piece:
    """Words of the task around the record's.

    Args:
        text: the words; they alone may spell special tokens.
    """
    return Piece(text, learn=False, kind="markup")


def answered(prompt: Iterable[Piece], answer: str) -> Example:
    """A prompt with its answer and the end token, both learned.

    Args:
        prompt: pieces that are not learned.
        answer: the text; space around it is left out.
    """
    return Example((*prompt, Piece(answer.strip()), END))


def field(row: Mapping[str, Any], fields: Mapping[str, str], name: str, where: str) -> str:
    """The text of a field, without space around it; a list of sentences is joined.

    Args:
        row: column name to value.
        fields: field name to column name, as the recipe says.
        name: the field's.
        where: file and line, for errors.

    Raises:
        DataError: there is no such column, or it does not hold text.
    """
    value = row.get(fields[name])
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return joined([each.strip() for each in value])
    return text_field(row, fields[name], where).strip()
