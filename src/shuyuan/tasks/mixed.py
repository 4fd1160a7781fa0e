"""Several tasks in one model: each record names its own, and a tag at the start of its row tells the model which it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import DataError
from .base import TASKS, Example, Piece, Setting
from .chat import Chat
from .measures import chrf_of
from .prompted import START, Case, Prompted, markup
from .question_answering import QuestionAnswering
from .summarization import Summarization
from .translation import Translation

KINDS: tuple[type[Prompted], ...] = (Chat, Translation, Summarization, QuestionAnswering)


class Mixed(Prompted):
    """Records of the tasks with prompts, side by side. Each has the columns of its task, and one with the task's name.

    Scores are those of each task, under its name; the baseline is the first one of each.

    Args:
        setting: what a run fixes for the tasks.
    """

    name = "mixed"
    command = ("evaluate", " --data FILE")
    templated = True
    needs = ("task",)
    measure = "chrf"
    libraries = ("sacrebleu", "rouge_score")
    near_repeats = QuestionAnswering.near_repeats

    def __init__(self, setting: Setting | None = None) -> None:
        tasks = [kind().configured(setting or Setting()) for kind in KINDS]
        self._tasks: dict[str, Prompted] = {each.name: each for each in tasks if isinstance(each, Prompted)}
        for name, task in self._tasks.items():
            task.opening = (START, markup(_tag(name)))

    def configured(self, setting: Setting) -> Mixed:
        return Mixed(setting)

    def part(self, name: str) -> Prompted | None:
        """The task of that name, which writes its tag into every prompt; None if it is none of them.

        Args:
            name: a task's.
        """
        return self._tasks.get(name)

    def records(
        self, row: Mapping[str, Any], fields: Mapping[str, str], where: str
    ) -> Iterator[tuple[Mapping[str, Any], str]]:
        if self._unnamed(row, fields):
            yield row, where
        else:
            yield from self._of(row, fields, where).records(row, fields, where)

    def lacking(self, row: Mapping[str, Any], fields: Mapping[str, str]) -> str | None:
        return "a task" if self._unnamed(row, fields) else self._of(row, fields, "").lacking(row, fields)

    def examples(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> list[Example]:
        return self._of(row, fields, where).examples(row, fields, where)

    def example(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> Example:
        return self._of(row, fields, where).example(row, fields, where)

    def right(self, row: Mapping[str, Any], fields: Mapping[str, str], example: Example) -> list[str]:
        return self._of(row, fields, "").right(row, fields, example)

    @property
    def ending(self) -> tuple[Piece, ...]:
        return self._tasks[Chat.name].ending  # all others end with the end token, which ends every answer

    def parse(self, text: str) -> str:
        return self._tasks[Chat.name].parse(text)

    def score(self, answer: str, right: Sequence[str]) -> float:
        return max(chrf_of(answer, each) for each in right)

    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> dict[str, float]:
        told: dict[str, float] = {}
        for name, numbers in self._by_task(cases).items():
            own = [self._own(cases[number]) for number in numbers]
            found = self._tasks[name].scores(own, [answers[number] for number in numbers])
            told |= {f"{name.replace('-', '_')}_{metric}": value for metric, value in found.items()}
        return told

    def baselines(self, cases: Sequence[Case], training: Sequence[Case]) -> dict[str, list[str]]:
        """For each case what the first baseline of its task says.

        Args:
            cases, training: as of `Prompted.baselines`.
        """
        there = self._by_task(training)
        guesses: dict[int, str] = {}
        for name, numbers in self._by_task(cases).items():
            own = [self._own(cases[number]) for number in numbers]
            known = [self._own(training[number]) for number in there.get(name, [])]
            found = next(iter(self._tasks[name].baselines(own, known).values()), None)
            guesses |= zip(numbers, found or [""] * len(numbers), strict=True)
        return {"simple": [guesses[number] for number in range(len(cases))]}

    def _unnamed(self, row: Mapping[str, Any], fields: Mapping[str, str]) -> bool:
        task = row.get(fields["task"], "something")  # a column that is not there is refused
        return task is None or not str(task).strip()

    def _of(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> Prompted:
        """The task that a row names.

        Raises:
            DataError: it names none of them.
        """
        if fields["task"] not in row:
            raise DataError(
                "data.no-column",
                f"There is no column `{fields['task']}` with the task of each record.",
                where=where,
                mend=f"Write one of these there: {', '.join(self._tasks)}; or name the column as `data.task`.",
            )
        task = self._tasks.get(str(row[fields["task"]]))
        if task is None:
            raise DataError(
                "data.unknown-task",
                f"`{str(row[fields['task']])[:40]}` is no task that records of one model can mix.",
                where=where,
                mend=f"Write one of these: {', '.join(self._tasks)}.",
            )
        return task

    def _by_task(self, cases: Sequence[Case]) -> dict[str, list[int]]:
        """Which cases are of each task that there is, by their tags."""
        found = {
            name: [number for number, case in enumerate(cases) if case.asks.startswith(_tag(name))]
            for name in self._tasks
        }
        return {name: numbers for name, numbers in found.items() if numbers}

    def _own(self, case: Case) -> Case:
        """A case as its task alone would have it, without the tag."""
        name = next(name for name in self._tasks if case.asks.startswith(_tag(name)))
        return replace(case, asks=case.asks.removeprefix(_tag(name)))


def _tag(name: str) -> str:
    return f"[{name}] "


TASKS[Mixed.name] = Mixed()
