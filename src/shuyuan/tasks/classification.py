"""Classification: tell which label a text or an image has, or which labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..visible import visible
from .base import TASKS, Example, Label, Piece, Setting, Task, text_field
from .confusion import outcome
from .multi_label import decisions

LABEL_CHARS = 200  # a longer label is a text in the wrong column
LARGEST = 10**15  # numbers up to here are written without an exponent


class Classification(Task):
    """A text or an image in, one label of several out, or any number of them.

    Args:
        setting: whether a record may have any number of labels, and how they are written.
    """

    name = "classification"
    command = ("classify", "")
    outputs = ("labels",)
    target = "record"

    def __init__(self, setting: Setting | None = None) -> None:
        self._setting = setting or Setting()

    def configured(self, setting: Setting) -> Classification:
        return type(self)(setting)

    def columns(self, fields: Mapping[str, str]) -> list[str]:
        return [fields["text"], fields["label"]]

    def example(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> Example:
        text = Piece(text_field(row, fields["text"], where), learn=False)
        return Example((text,), label_field(row, fields["label"], where, self._setting))

    def label_metrics(
        self, probabilities_NK: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
    ) -> dict[str, float]:
        """Of one label a record: mean cross entropy in nats; the share of records whose likeliest label is the right one, with its
        interval; the mean over labels of precision, recall and F1, the last with its interval; the expected calibration error.
        Of any number: those of `multi_label.Decisions`.

        Args:
            probabilities_NK: of each of K labels for each of N records.
            labels: the class of each record (N,), or (N, K) ones and zeros where a record may have any number.

        Returns:
            {loss, accuracy, macro_precision, macro_recall, macro_f1, calibration_error}, of accuracy and macro_f1 with NAME_low and NAME_high.
        """
        if labels.ndim == 2:
            return decisions(probabilities_NK, labels).metrics()
        right_N = np.take_along_axis(probabilities_NK, labels[:, None], 1)[:, 0].astype(np.float64)
        found = outcome(probabilities_NK, labels)
        low, high = found.interval()
        f1_low, f1_high = found.macro_f1_interval()
        return {
            "loss": float(-np.log(np.maximum(right_N, np.finfo(np.float64).tiny)).mean()),
            "accuracy": found.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "macro_precision": found.macro(found.precision()),
            "macro_recall": found.macro(found.recall()),
            "macro_f1": found.macro(found.f1()),
            "macro_f1_low": f1_low,
            "macro_f1_high": f1_high,
            "calibration_error": found.calibration_error(),
        }

    def label_details(
        self,
        probabilities_NK: NDArray[np.floating[Any]],
        labels: NDArray[np.integer[Any]],
        names: Sequence[str],
    ) -> dict[str, Any]:
        found = (decisions if labels.ndim == 2 else outcome)(probabilities_NK, labels)
        return found.to_json(names)


def label_field(row: Mapping[str, Any], column: str, where: str, setting: Setting | None = None) -> Label:
    """The label in a column as text: 1 and 1.0 are "1", yes and no of a table are "true" and "false", nothing is "".

    A list, also one that is written as JSON, is all labels of the record, sorted; so is what the setting's separator divides, of
    which nothing is a record without labels.

    Args:
        row: a row of a table.
        column: with the label.
        where: the row's place, for errors.
        setting: how labels are told apart; default: one label a record.

    Raises:
        DataError: there is no such column, it holds something that is no label, or several where a record has one.
    """
    setting = setting or Setting(multi_label=False)
    if column not in row:
        raise DataError(
            "data.no-column",
            f"There is no column `{column}` with the label.",
            where=where,
            mend="Labels need a table (.csv, .tsv, .jsonl, .json, .parquet); name its column as `data.label`. "
            f"Found: {', '.join(map(str, row)) or 'none'}.",
        )
    several = _several(row[column], setting)
    if several is None:
        label = _label(row[column], column, where)
        return (label,) if setting.multi_label and label else label
    if setting.multi_label is False:
        raise DataError(
            "data.several-labels",
            f"The column `{column}` holds a list, and this run takes one label a record.",
            where=where,
            mend="Write data.multi_label = true, which the families transformer and ngrams and models of transformers have; or give each "
            "record one label.",
        )
    labels = (_label(value, column, where) for value in several)
    return tuple(sorted({label for label in labels if label}))


def _several(value: Any, setting: Setting) -> list[Any] | None:
    """The labels in a value that may hold several; None in one that holds one, or nothing."""
    if isinstance(value, list | tuple):
        return list(value)
    if setting.label_separator is not None:
        parts = [] if _nothing(value) else str(value).split(setting.label_separator)
        return [part.strip() for part in parts]
    if isinstance(value, str) and setting.multi_label is not False and value.strip().startswith("["):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, list) else None
    return None


def _nothing(value: Any) -> bool:
    return (
        value is None or value != value or (isinstance(value, str) and not value.strip())
    )  # NaN is not itself


def _label(value: Any, column: str, where: str) -> str:
    if _nothing(value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and abs(value) < LARGEST:
        return str(int(value) if value == int(value) else value)
    if isinstance(value, str) and len(value) <= LABEL_CHARS and _is_one_line(value):
        return value
    raise DataError(
        "data.not-a-label",
        f"The column `{column}` holds no label here, but {_kind(value)}.",
        where=where,
        mend="Name another column as `data.label`, or write the label as a short text, a number, true or false.",
    )


def _is_one_line(text: str) -> bool:
    """Whether nothing in it breaks a line, or acts in another way; spaces of all scripts are fine."""
    return visible(text) == text and not {"\n", "\t"} & set(text)


def _kind(value: Any) -> str:
    if isinstance(value, int | float):
        return "a number without bounds or over 10¹⁵"
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    if len(value) > LABEL_CHARS:
        return f"a text of {len(value):,} characters"
    return "a text with line ends or other control characters"


TASKS[Classification.name] = Classification()
