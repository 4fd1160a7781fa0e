"""Classification: tell which label a text or an image has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .base import TASKS, Example, Piece, Task, text_field
from .confusion import outcome

LABEL_CHARS = 200  # a longer label is a text in the wrong column
LARGEST = 10**15  # numbers up to here are written without an exponent


class Classification(Task):
    """A text or an image in, one label of several out."""

    name = "classification"
    command = ("classify", "")
    outputs = ("labels",)
    target = "record"

    def columns(self, fields: Mapping[str, str]) -> list[str]:
        return [fields["text"], fields["label"]]

    def example(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> Example:
        text = Piece(text_field(row, fields["text"], where), learn=False)
        return Example((text,), label_field(row, fields["label"], where))

    def label_metrics(
        self, probabilities_NK: NDArray[np.floating[Any]], labels_N: NDArray[np.integer[Any]]
    ) -> dict[str, float]:
        """Mean cross entropy in nats; the share of records whose likeliest label is the right one, with its interval; the mean
        over labels of precision, recall and F1, the last with its interval; the expected calibration error."""
        right_N = np.take_along_axis(probabilities_NK, labels_N[:, None], 1)[:, 0].astype(np.float64)
        found = outcome(probabilities_NK, labels_N)
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
        labels_N: NDArray[np.integer[Any]],
        names: Sequence[str],
    ) -> dict[str, Any]:
        return outcome(probabilities_NK, labels_N).to_json(names)


def label_field(row: Mapping[str, Any], column: str, where: str) -> str:
    """The label in a column as text: 1 and 1.0 are "1", yes and no of a table are "true" and "false", nothing is "".

    Raises:
        DataError: there is no such column, or it holds something that is no label.
    """
    if column not in row:
        raise DataError(
            "data.no-column",
            f"There is no column `{column}` with the label.",
            where=where,
            mend="Labels need a table (.csv, .tsv, .jsonl, .json, .parquet); name its column as `data.label`. "
            f"Found: {', '.join(map(str, row)) or 'none'}.",
        )
    value = row[column]
    if (
        value is None or value != value or (isinstance(value, str) and not value.strip())
    ):  # only NaN is not itself
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and abs(value) < LARGEST:
        return str(int(value) if value == int(value) else value)
    if isinstance(value, str) and len(value) <= LABEL_CHARS and value.isprintable():
        return value
    raise DataError(
        "data.not-a-label",
        f"The column `{column}` holds no label here, but {_kind(value)}.",
        where=where,
        mend="Name another column as `data.label`, or write the label as a short text, a number, true or false.",
    )


def _kind(value: Any) -> str:
    if isinstance(value, int | float):
        return "a number without bounds or over 10¹⁵"
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    if len(value) > LABEL_CHARS:
        return f"a text of {len(value):,} characters"
    return "a text with line ends or other control characters"


TASKS[Classification.name] = Classification()
