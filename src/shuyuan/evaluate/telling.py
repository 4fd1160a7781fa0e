"""What a model says of labels, record by record: of a record with one label, or with any number of them.

Legend: N records, K labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..tasks.multi_label import THRESHOLD, decisions

SHOWN = 5  # of the worst errors
NONE = "none"  # what is said of a record without labels


class Telling(ABC):
    """Probabilities beside what is right.

    Args:
        probabilities_NK: of each label.
        right: as of `Task.label_metrics`.
        labels: their names.

    Attributes:
        measure: the score of one record that slices are means of.
    """

    measure: ClassVar[str]

    def __init__(
        self,
        probabilities_NK: NDArray[np.floating[Any]],
        right: NDArray[np.integer[Any]],
        labels: Sequence[str],
    ) -> None:
        self.probabilities_NK, self.right, self.labels = probabilities_NK, right, labels

    @property
    @abstractmethod
    def values(self) -> dict[str, list[float]]:
        """Scores of each record, by their names; that of `measure` is one."""

    @property
    @abstractmethod
    def names(self) -> list[list[str]]:
        """The labels that each record has."""

    @property
    @abstractmethod
    def sure(self) -> NDArray[np.floating[Any]]:
        """The probability of what is right."""

    @property
    @abstractmethod
    def wrong(self) -> NDArray[np.bool_]:
        """Which records are not told just so."""

    @abstractmethod
    def said(self, number: int) -> list[str]:
        """The labels that the model tells of a record, the likeliest first."""

    def worst(self) -> NDArray[np.int64]:
        """The records whose right labels were thought least likely, of those that were told wrong, at most `SHOWN`."""
        order = np.argsort(self.sure, kind="stable")
        found: NDArray[np.int64] = order[self.wrong[order]][:SHOWN]
        return found

    def error(self, number: int, text: str) -> dict[str, Any]:
        """A wrong answer as JSON can hold it: {prompt, answer, right, score}, the score the probability of what is right."""
        answer, right = (", ".join(names) or NONE for names in (self.said(number), self.names[number]))
        return {"prompt": text, "answer": answer, "right": right, "score": float(self.sure[number])}

    def sample(self, number: int) -> str:
        """What the model says of a record, and its labels, in a line."""
        place = {label: number for number, label in enumerate(self.labels)}
        said = [f"{name} ({self.probabilities_NK[number][place[name]]:.2f})" for name in self.said(number)]
        return f" → {', '.join(said) or NONE}; label: {', '.join(self.names[number]) or NONE}"


class OneLabel(Telling):
    """Each record has one label, of the class in `right` (N,)."""

    measure = "accuracy"

    @property
    def values(self) -> dict[str, list[float]]:
        return {"accuracy": (~self.wrong).astype(float).tolist()}

    @property
    def names(self) -> list[list[str]]:
        return [[self.labels[label]] for label in self.right.tolist()]

    @property
    def sure(self) -> NDArray[np.floating[Any]]:
        return np.take_along_axis(self.probabilities_NK, self.right[:, None], 1)[:, 0]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        wrong: NDArray[np.bool_] = self.probabilities_NK.argmax(1) != self.right
        return wrong

    def said(self, number: int) -> list[str]:
        return [self.labels[int(self.probabilities_NK[number].argmax())]]


class ManyLabels(Telling):
    """Each record has any number of labels: ones in `right` (N, K)."""

    measure = "record_f1"

    @property
    def values(self) -> dict[str, list[float]]:
        found = decisions(self.probabilities_NK, self.right)
        return {"record_f1": found.record_f1.tolist(), "exact_labels": found.exact.tolist()}

    @property
    def names(self) -> list[list[str]]:
        return [[self.labels[place] for place in np.flatnonzero(row_K).tolist()] for row_K in self.right]

    @property
    def sure(self) -> NDArray[np.floating[Any]]:
        return decisions(self.probabilities_NK, self.right).sure

    @property
    def wrong(self) -> NDArray[np.bool_]:
        wrong_N: NDArray[np.bool_] = decisions(self.probabilities_NK, self.right).exact == 0
        return wrong_N

    def said(self, number: int) -> list[str]:
        row_K = self.probabilities_NK[number]
        order = np.argsort(-row_K, kind="stable")
        return [self.labels[place] for place in order if row_K[place] >= THRESHOLD]


def telling(
    probabilities_NK: NDArray[np.floating[Any]], right: NDArray[np.integer[Any]], labels: Sequence[str]
) -> Telling:
    """Probabilities beside what is right, whichever it is.

    Args:
        probabilities_NK: of each of K labels for each of N records.
        right: the class of each record (N,), or (N, K) ones and zeros where a record may have any number of labels.
        labels: names of the K labels.
    """
    return (ManyLabels if right.ndim == 2 else OneLabel)(probabilities_NK, right, labels)
