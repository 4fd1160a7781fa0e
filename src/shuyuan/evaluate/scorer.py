"""One model's scores on records that were read from a file: of each record, so that two models can be compared.

Legend: N records, K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..data import load_tokenizer, question_and_text
from ..errors import DataError, RunError
from ..hardware import choose_precision, detect
from ..inference import Labeller, Predictor, Spanner, computed
from ..inference.spans import found_in
from ..models import load_network, load_writer
from ..progress import Progress
from ..recipe import Recipe
from ..runs import ORIGINAL, variant_folder
from ..tasks import Example, Prompted, QuestionAnswering, Task
from ..tasks.languages import words
from ..tasks.measures import interval, with_interval
from ..tasks.prompted import case_of
from ..vault import Store
from .predictions import SHOWN, SHOWN_CHARS, answered, judged
from .slices import by_label, by_length, by_owner
from .telling import telling


class Record(NamedTuple):
    """A record as the task has it, all right answers, and its owner, where it names one."""

    example: Example
    right: list[str]
    owner: str | None = None


@dataclass(frozen=True)
class Scored:
    """What came of one model.

    Attributes:
        scores: over all records.
        details: what stands behind them, as JSON can hold it: {measure, slices, worst}.
        values: scores of each record, by their names: what two models are compared by.
    """

    scores: dict[str, float]
    details: dict[str, Any]
    values: Mapping[str, Sequence[float]]


class Scorer:
    """A run's model, ready to be scored.

    Args:
        recipe: of the run, as resolved.
        store: the run's files.
        task: what it is asked to do, as the run fixes it.
        progress: shows the records done.

    Raises:
        RunError: the model has no head for the task.
    """

    def __init__(self, recipe: Recipe, store: Store, task: Task, progress: Progress) -> None:
        self._model, self._tokenizer = load_network(store), load_tokenizer(store)
        if task.output != self._model.config.output:
            raise RunError(
                "run.other-task",
                f"The run is for {recipe.task}, and its model has no head for {task.name}.",
                where=str(store.path),
                mend="Leave --task out, or train a run for that task.",
            )
        self._task, self._progress = task, progress
        self._precision = choose_precision(recipe.train.precision, detect())
        self._predictor = None
        if isinstance(task, Prompted) and task.output == "tokens":
            writer = load_writer(store, variant_folder(ORIGINAL), self._precision, progress)
            self._predictor = Predictor(writer, self._tokenizer, task, progress)

    @property
    def context(self) -> int:
        """Tokens that the model sees at once."""
        return self._model.context

    def fits(self, record: Record) -> bool:
        """Whether the model can be asked the record at all."""
        return self._predictor is None or self._predictor.sees(case_of(record.example, record.right).prompt)

    def scored(self, records: Sequence[Record], name: str) -> Scored:
        """The model's scores.

        Args:
            records: that fit.
            name: of their file.

        Raises:
            DataError: a record has labels that the model cannot tell, or no text to look in.
        """
        if isinstance(self._task, Prompted):
            return self._of_answers(self._task, records, name)
        return self._of_labels(records) if self._task.output == "labels" else self._of_texts(records)

    def _of_answers(self, task: Prompted, records: Sequence[Record], name: str) -> Scored:
        cases = [case_of(each.example, each.right) for each in records]
        if self._predictor is not None:
            answers = answered(cases, self._predictor, name, self._progress)
        else:
            answers = self._pointed(task, [each.example for each in records], name)
        scores, details, _ = judged(cases, answers, task, [], _owners(records))
        return Scored(scores, details, task.values(cases, answers))

    def _pointed(self, task: Prompted, examples: Sequence[Example], name: str) -> list[str]:
        """The answers of a model that points to them."""
        assert isinstance(task, QuestionAnswering)
        pairs = [question_and_text(example) for example in examples]
        spanner = Spanner(self._model, self._tokenizer, self._precision)
        with self._progress.stage(f"answer on {name}", len(pairs), "questions") as stage:
            found = spanner.find(pairs, done=lambda _: stage.advance())
            return [
                task.pointed(question, text, found_in(places)).text
                for (question, text), places in zip(pairs, found, strict=True)
            ]

    def _of_labels(self, records: Sequence[Record]) -> Scored:
        labeller = Labeller(self._model, self._precision)
        labels, rights = list(labeller.labels), [_labels_of(each.example) for each in records]
        _check_known(labels, rights, labeller.multi_label)
        texts = [each.example.text for each in records]
        with self._progress.stage("classify", len(texts), "texts") as stage:
            found = []
            for each in labeller.label(texts, self._tokenizer):
                found.append([each[label] for label in labels])
                stage.advance()
        has_NK = np.array([[label in own for label in labels] for own in rights], np.int64)
        told = telling(np.array(found), has_NK if labeller.multi_label else has_NK.argmax(1), labels)
        values = told.values[told.measure]
        worst = [told.error(place, texts[place][:SHOWN_CHARS]) for place in told.worst().tolist()]
        slices = by_length([len(words(text)) for text in texts], values) + by_label(told.names, values)
        slices += by_owner(_owners(records), values)
        details = {"measure": told.measure, "slices": slices, "worst": worst}
        return Scored(self._task.label_metrics(told.probabilities_NK, told.right), details, told.values)

    def _of_texts(self, records: Sequence[Record]) -> Scored:
        """By the loss on each text, in pieces as long as the context."""
        network, texts = computed(self._model, self._precision), [each.example.text for each in records]
        losses, tokens, sizes = [], [], []
        with self._progress.stage("score", len(texts), "texts") as stage:
            for text in texts:
                stream = np.array(
                    [self._tokenizer.end_id, *self._tokenizer.encode(text), self._tokenizer.end_id]
                )
                total = 0.0
                for start in range(0, len(stream) - 1, self.context):
                    piece = stream[start : start + self.context + 1]
                    total += network.loss(piece[None, :-1].copy(), piece[None, 1:].copy())
                losses.append(total)
                tokens.append(len(stream) - 1)
                sizes.append(max(1, len(text.encode())))
                stage.advance()
        bits = [loss / float(np.log(2)) / size for loss, size in zip(losses, sizes, strict=True)]
        scores = self._task.metrics(sum(losses) / sum(tokens), sum(tokens), sum(sizes))
        scores |= with_interval("bits_per_byte_of_a_record", interval(bits))
        worst = [
            {"prompt": texts[place][:SHOWN_CHARS], "answer": "", "right": "", "score": bits[place]}
            for place in np.argsort(bits, kind="stable")[::-1][:SHOWN].tolist()
        ]
        slices = by_length([len(words(text)) for text in texts], bits) + by_owner(_owners(records), bits)
        details = {"measure": "bits_per_byte", "slices": slices, "worst": worst}
        return Scored(scores, details, {"bits_per_byte": bits})


def _labels_of(example: Example) -> tuple[str, ...]:
    return example.label if isinstance(example.label, tuple) else (example.label or "",)


def _check_known(labels: Sequence[str], rights: Sequence[Sequence[str]], multi_label: bool) -> None:
    """Refuses records whose labels the model cannot tell."""
    what, mend = "", "Name the column of the labels with --column label=NAME, or mend the file."
    wrong = next((number for number, own in enumerate(rights, 1) if not set(own) <= set(labels)), None)
    if wrong is not None:
        what = f"The label of record {wrong:,} is none of: {', '.join(labels[:12])}."
    elif not multi_label and any(len(own) != 1 for own in rights):
        what = "A record has several labels, or none, and the model tells one."
    if what:
        raise DataError("data.unknown-label", what, where="--data", mend=mend)


def _owners(records: Sequence[Record]) -> list[str]:
    """The owner of each record; none where one names no owner."""
    owners = [each.owner for each in records if each.owner is not None]
    return owners if len(owners) == len(records) else []
