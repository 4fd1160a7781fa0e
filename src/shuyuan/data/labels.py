"""Which labels there are, and the class of each record: the place of its label among them, or of its set of labels among the sets."""

from __future__ import annotations

import difflib
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..recipe import MOST_LABELS
from ..tasks.base import Label

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_SHOWN = 12  # labels in an error


@dataclass(frozen=True)
class Settled:
    """The labels of all records.

    Attributes:
        names: the labels in order; none for a task without labels.
        sets: where a record may have any number of labels: each set that there is, as places in `names`; else none.
        class_R: of each record, the place of its label in `names`, or of its set in `sets`.
    """

    names: list[str]
    sets: list[list[int]]
    class_R: NDArray[np.uint16]


class Labels:
    """Notes the label of each record while the source is read, or all labels that it has.

    Args:
        named: the recipe's labels; None: they are those that the training split will turn out to have.
    """

    def __init__(self, named: list[str] | None) -> None:
        self._named = named
        self._numbers: dict[Label, int] = {}  # in the order of first sight
        self._allowed = None if named is None else set(named)
        self._where: list[str] = []  # of that first sight
        self._noted = array("H")

    def add(self, label: Label, where: str) -> None:
        """Notes the next record's label.

        Raises:
            DataError: it is none of the recipe's, or one too many.
        """
        for name in _each(label):
            if self._allowed is not None and name not in self._allowed:
                mend = "Mend the record, or add the label to `data.labels`."
                raise _unknown(name, self._named or [], where, mend)
        number = self._numbers.setdefault(label, len(self._numbers))
        if number == len(self._where):
            if number == MOST_LABELS:
                raise DataError(
                    "data.too-many-labels",
                    f"There are more than {MOST_LABELS:,} {'labels' if isinstance(label, str) else 'sets of labels'}.",
                    where=where,
                    mend="Name the column of the labels as `data.label`.",
                )
            self._where.append(where)
        self._noted.append(number)

    @property
    def count(self) -> int:
        """Records noted: 0 for a task without labels."""
        return len(self._noted)

    def spread(self) -> NDArray[np.uint64]:
        """A number for the label of each record, far from those of all others."""
        numbers_R = np.asarray(self._noted, np.uint64)
        return np.multiply(numbers_R, np.uint64(0x9E3779B97F4A7C15), dtype=np.uint64)

    def settle(self, kept_R: NDArray[np.bool_], training_R: NDArray[np.bool_]) -> Settled:
        """The labels in order, and the class of each record; none for a task without labels.

        Where one record has a list of labels, any may have several, or none.

        Args:
            kept_R: records that are kept; the labels of the others do not count.
            training_R: those of them that are trained on.

        Raises:
            DataError: a held-out record has a label that no training record has, and the recipe names none.
        """
        noted_R = np.asarray(self._noted)
        if not len(noted_R):
            return Settled([], [], noted_R)
        seen = list(self._numbers)
        learned = {name for number in np.unique(noted_R[training_R]).tolist() for name in _each(seen[number])}
        names = self._named or in_order(learned)
        place = {name: number for number, name in enumerate(names)}
        for number in np.unique(noted_R[kept_R]).tolist() if names else []:
            for name in _each(seen[number]):
                if name not in place:
                    mend = "Name all labels in `data.labels`, or take the record out."
                    raise _unknown(name, self._named or [], self._where[number], mend)
        if all(isinstance(label, str) for label in seen):
            classes = np.array([place.get(str(label), 0) for label in seen], np.uint16)
            return Settled(names, [], classes[noted_R])
        owned = [tuple(sorted(place[name] for name in _each(label) if name in place)) for label in seen]
        numbers = {each: number for number, each in enumerate(dict.fromkeys(owned))}
        classes = np.array([numbers[each] for each in owned], np.uint16)
        return Settled(names, [list(each) for each in numbers], classes[noted_R])


def _each(label: Label) -> tuple[str, ...]:
    return (label,) if isinstance(label, str) else label


def in_order(labels: Iterable[str]) -> list[str]:
    """Sorted, as numbers where all of them are."""
    labels = list(labels)
    if all(_NUMBER.fullmatch(label) for label in labels):
        return sorted(labels, key=lambda label: (float(label), label))
    return sorted(labels)


def _unknown(label: str, named: list[str], where: str, mend: str) -> DataError:
    """The refusal of a label, which is a record's own and is not quoted; what the recipe names is."""
    spelled = {name.lower(): name for name in named}
    near = difflib.get_close_matches(label.lower(), spelled, n=1, cutoff=0.5)
    hint = f'Did you mean "{spelled[near[0]]}"? ' if near else ""
    more = f" and {len(named) - _SHOWN:,} more" if len(named) > _SHOWN else ""
    what = f"is none of: {', '.join(named[:_SHOWN])}{more}" if named else "is that of no training record"
    return DataError("data.unknown-label", f"The label here {what}.", where=where, mend=hint + mend)
