"""What the tasks with a prompt and an answer share: the layout of a row, what of it is learned, and how one is predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

from .base import Example, Piece, Task, text_field

START = Piece("", learn=False, kind="end")  # the end token of the record before opens a row
END = Piece("", kind="end")

Prompt: TypeAlias = tuple[Piece, ...]
Fits = Callable[[Prompt], bool]  # whether a prompt leaves room for an answer without being shortened
Result = TypeVar("Result")
# What is asked of a model for one input: prompts go out, their answers come in, as often as needed; at the end a result.
Asking: TypeAlias = Generator[list[Prompt], list[str], Result]


class Prompted(Task):
    """A prompt in, an answer out. The loss is the answer's, and that of the end token behind it.

    Attributes:
        needs: the fields without which there is nothing to learn, in the order of the columns.
    """

    output = "tokens"
    prompted = True
    needs: ClassVar[tuple[str, ...]]

    def columns(self, fields: Mapping[str, str]) -> list[str]:
        return [fields[name] for name in self.needs]

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

    def parse(self, text: str) -> str:
        """The answer in what the model wrote."""
        return text.strip()

    def metrics(self, loss: float, tokens: int, text_bytes: int) -> dict[str, float]:
        """As of generation, of the answers alone."""
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "bits_per_byte": loss / math.log(2) * tokens / max(1, text_bytes),
        }


def together(askings: Sequence[Asking[Result]], answers: Callable[[list[Prompt]], list[str]]) -> list[Result]:
    """The results of several inputs whose prompts are asked at once, round by round."""
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


def given(text: str, **how: Any) -> Piece:
    """A text of the record that the model is given; `how` as in `Piece`."""
    return Piece(text.strip(), learn=False, **how)


def markup(text: str) -> Piece:
    """Words of the task around the record's."""
    return Piece(text, learn=False, kind="markup")


def answered(prompt: Iterable[Piece], answer: str) -> Example:
    """A prompt with its answer and the end token, both learned."""
    return Example((*prompt, Piece(answer.strip()), END))


def field(row: Mapping[str, Any], fields: Mapping[str, str], name: str, where: str) -> str:
    """The text of a field, without space around it."""
    return text_field(row, fields[name], where).strip()
