"""What every task says about itself: its record, what of it is learned, and how a prediction is scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

if TYPE_CHECKING:
    from .template import Template


Label = str | tuple[str, ...]  # of a record: one, or all that it has, sorted

# What a model's head gives: the next token at every place, one label, or the places where an answer begins and ends.
Output = Literal["tokens", "labels", "spans"]


@dataclass(frozen=True)
class Piece:
    """A stretch of text, and whether the model is trained to produce it (a prompt is not, an answer is).

    The rest is for tasks with prompts.

    Attributes:
        text: its text; "" for an end.
        learn: whether it is learned.
        kind: "text" of the record; "markup": the task's own words, which alone may spell special tokens; "end": the end token.
        cut: where it may be shortened if the row is too long: at its start, at its end, or nowhere.
        keep: its characters (from, to) that stay when it is shortened, of a text that is asked about its answer, and (0, 0) where
            it holds none; None: those at the other end.
        turn: pieces of one number are left out together if the row is too long, the lowest number first; None stays.
    """

    text: str
    learn: bool = True
    kind: Literal["text", "markup", "end"] = "text"
    cut: Literal["no", "start", "end"] = "no"
    keep: tuple[int, int] | None = None
    turn: int | None = None


@dataclass(frozen=True)
class Example:
    """A record as the model will see it: its pieces in order. Of a task without prompts one end token follows; with prompts,
    every end is a piece.

    Attributes:
        pieces: its text.
        label: for tasks that output labels: the right one, "" where the record has none, or all of them where it may have any
            number; None for all other tasks.
    """

    pieces: tuple[Piece, ...]
    label: Label | None = None

    @property
    def text(self) -> str:
        """Its pieces, joined."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class Setting:
    """What a run fixes for its task, beside the columns.

    Attributes:
        languages: of the two sides of a translation; None: told from each text.
        template: how the messages of a chat are written; None: the built-in one.
        output: which of the task's outputs the model has a head for; None: the first.
        multi_label: whether a record may have any number of labels; None: where its label is a list.
        label_separator: what stands between them in a text; None: a text is one label.
    """

    languages: tuple[str, str] | None = None
    template: Template | None = None
    output: Output | None = None
    multi_label: bool | None = None
    label_separator: str | None = None


class Task(ABC):
    """One use of a model.

    Attributes:
        name: as in the recipe's `task`.
        outputs: the kinds of head that it can be done with, the likeliest first; the only thing that a model knows of it.
        command: the verb that predicts, with what it wants beside a run and a text.
        target: what one prediction is of, and so what the loss is a mean over: a token, or a record.
        prompted: whether records are prompts and answers: each has rows of its own, of which answers alone are learned.
        templated: whether a template of the model to start from shapes the prompt.
        libraries: of the extra `tasks`, that its scores need.
        near_repeats: whether a record that shares most of its words with another repeats it.
    """

    name: ClassVar[str]
    command: ClassVar[tuple[str, str]]
    outputs: ClassVar[tuple[Output, ...]]
    target: ClassVar[Literal["token", "record"]] = "token"
    prompted: ClassVar[bool] = False
    templated: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()
    near_repeats: ClassVar[bool] = True

    @property
    def output(self) -> Output:
        """The head that the run's model has for it. It also says which scores there are: `label_metrics` for labels, else `metrics`."""
        return self.outputs[0]

    def configured(self, setting: Setting) -> Task:
        """The task as a run fixes it.

        Args:
            setting: what the run fixes.
        """
        return self

    @abstractmethod
    def columns(self, fields: Mapping[str, str]) -> list[str]:
        """The source's columns that the task reads.

        Args:
            fields: the recipe's column of each field.
        """

    def records(
        self, row: Mapping[str, Any], fields: Mapping[str, str], where: str
    ) -> Iterator[tuple[Mapping[str, Any], str]]:
        """The records in a row of the source, each with its place: the row itself, unless the format nests records.

        Args:
            row: column to value.
            fields: the recipe's column of each field.
            where: the row's place, for errors.
        """
        yield row, where

    def lacking(self, row: Mapping[str, Any], fields: Mapping[str, str]) -> str | None:
        """What a record lacks, so that it is left out and counted: "text", "a summary"; None for a whole one.

        Args:
            row: column to value.
            fields: the recipe's column of each field.
        """
        return "text" if row.get(fields["text"], "") is None else None

    def examples(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> list[Example]:
        """The rows that are learned from a record; one for all tasks but a translation, which goes both ways.

        Args:
            row, fields, where: as of `example`.
        """
        return [self.example(row, fields, where)]

    @abstractmethod
    def example(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> Example:
        """Turns a row of the source into an example.

        Args:
            row: column name to value.
            fields: field name ("text") to column name, as the recipe says.
            where: file and line, for errors.

        Raises:
            DataError: a column is missing or holds the wrong type.
        """

    def text_scores(self, texts: Sequence[str]) -> dict[str, float]:
        """Scores of what a model writes of its own, beside nothing.

        Args:
            texts: what it wrote to prompts of its own.
        """
        return {}

    def metrics(self, loss: float, tokens: int, text_bytes: int) -> dict[str, float]:
        """Scores of a split, of a task whose output is tokens.

        Args:
            loss: the mean, in nats a token.
            tokens: how many it is the mean of.
            text_bytes: of the split's text, in UTF-8.
        """
        raise NotImplementedError(f"{self.name} outputs {self.output}")

    def label_metrics(
        self, probabilities_NK: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
    ) -> dict[str, float]:
        """Scores of a split, of a task whose output is labels.

        Args:
            probabilities_NK: of each of K labels for each of N records.
            labels: the right ones: the class of each record (N,), or (N, K) ones and zeros where a record may have any number.
        """
        raise NotImplementedError(f"{self.name} outputs {self.output}")

    def label_details(
        self,
        probabilities_NK: NDArray[np.floating[Any]],
        labels: NDArray[np.integer[Any]],
        names: Sequence[str],
    ) -> dict[str, Any]:
        """What stands behind these scores, label by label, as JSON can hold it.

        Args:
            probabilities_NK, labels: as of `label_metrics`.
            names: the labels in order.
        """
        raise NotImplementedError(f"{self.name} outputs {self.output}")


def text_field(row: Mapping[str, Any], column: str, where: str) -> str:
    """The text in a column.

    Args:
        row: column name to value.
        column: its name.
        where: file and line, for errors.

    Raises:
        DataError: there is no such column, or it does not hold text.
    """
    if column not in row:
        raise DataError(
            "data.no-column",
            f"There is no column `{column}`.",
            where=where,
            mend=f"Name one of these in the recipe's [data] table: {', '.join(map(str, row)) or 'none found'}. Of a table without a "
            'header, columns are counted: "1", "2", …',
        )
    value = row[column]
    if not isinstance(value, str):
        raise DataError(
            "data.not-text",
            f"The column `{column}` holds {type(value).__name__}, not text.",
            where=where,
            mend="Name another column, or write the value as text.",
        )
    return value


TASKS: dict[str, Task] = {}


def task_named(name: str) -> Task:
    """The task of that name, as the recipe spells it.

    Args:
        name: as in a recipe's `task`.
    """
    return TASKS[name]
