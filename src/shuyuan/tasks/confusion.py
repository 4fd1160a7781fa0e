"""What a classifier got right and wrong: which labels it takes for which, and whether it knows how sure it may be.

By hand in numpy: scikit-learn would take 80 MB of the process for these few lines, and the tests compare with it.

Legend: N records, K labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # of confidence, as in Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017
CONFIDENCE = 0.95  # of intervals
RESAMPLES, DRAWN_AT_ONCE = 1000, 2**20  # of an interval; counts that are held
MOST_SHOWN = 256  # labels of a matrix that is told; one of all pairs grows with their square

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """The predictions on a split, counted. What has nothing to be a share of is 0.

    Attributes:
        likeliest_N: the predicted class of each record.
        labels_N: the right one.
        sure_N: the probability of the predicted one.
        classes: K.
    """

    likeliest_N: NDArray[np.integer[Any]]
    labels_N: NDArray[np.integer[Any]]
    sure_N: NDArray[np.floating[Any]]
    classes: int

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each record's likeliest label is the right one (N,)."""
        right_N: NDArray[np.bool_] = self.likeliest_N == self.labels_N
        return right_N

    @property
    def accuracy(self) -> float:
        """The share of records whose likeliest label is the right one."""
        return float(self.right.mean())

    def interval(self) -> tuple[float, float]:
        """Wilson's interval of the accuracy on records like these (JASA 22, 1927)."""
        count, share = len(self.labels_N), self.accuracy
        z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
        middle = share + z**2 / (2 * count)
        reach = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
        low, high = ((middle + sign * reach) / (1 + z**2 / count) for sign in (-1, 1))
        return max(0.0, min(low, share)), min(1.0, max(high, share))

    def macro_f1_interval(self) -> tuple[float, float]:
        """The interval of the mean F1 on records like these: a percentile bootstrap over records, drawn as counts of each pair of
        labels."""
        pairs, counts = np.unique(
            np.stack([self.labels_N, self.likeliest_N]).astype(np.int64), axis=1, return_counts=True
        )
        classes = np.unique(pairs)
        random, shares = np.random.default_rng(0), counts / counts.sum()
        at_once = max(1, DRAWN_AT_ONCE // len(counts))
        values = np.concatenate(
            [
                _macro_f1(
                    random.multinomial(len(self.labels_N), shares, min(at_once, RESAMPLES - start)),
                    pairs,
                    classes,
                )
                for start in range(0, RESAMPLES, at_once)
            ]
        )
        low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return float(low), float(high)

    def records(self) -> Counts:
        """Records of each label."""
        return np.bincount(self.labels_N, minlength=self.classes)

    def precision(self) -> Floats:
        """Of the records that were given a label, the share that has it."""
        return shares(self._hits(), self._predicted())

    def recall(self) -> Floats:
        """Of the records that have a label, the share that was given it."""
        return shares(self._hits(), self.records())

    def f1(self) -> Floats:
        """The harmonic mean of the two."""
        return shares(2 * self._hits(), self._predicted() + self.records())

    def macro(self, value_K: Floats) -> float:
        """The mean over the labels that stand in the split or were given to a record of it.

        Args:
            value_K: of each label.
        """
        return float(value_K[(self.records() + self._predicted()) > 0].mean())

    def matrix(self) -> Counts:
        """How many records of each label (row) were given each label (column)."""
        pairs = self.labels_N.astype(np.int64) * self.classes + self.likeliest_N
        return np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)

    def bins(self) -> list[dict[str, Any]]:
        """The records by how sure the model was, as of `by_confidence`."""
        return by_confidence(self.sure_N, self.right)

    def calibration_error(self) -> float:
        """The expected calibration error: how far confidence and accuracy lie apart, over the bins."""
        return apart(self.bins())

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Everything of it: {classes: [{label, records, precision, recall, f1}], confusion, calibration}.

        `confusion` is None for more than `MOST_SHOWN` labels.

        Args:
            names: the labels in order.
        """
        columns = zip(
            names,
            self.records().tolist(),
            self.precision().tolist(),
            self.recall().tolist(),
            self.f1().tolist(),
            strict=True,
        )
        keys = ("label", "records", "precision", "recall", "f1")
        return {
            "classes": [dict(zip(keys, column, strict=True)) for column in columns],
            "confusion": self.matrix().tolist() if self.classes <= MOST_SHOWN else None,
            "calibration": self.bins(),
        }

    def _hits(self) -> Counts:
        return np.bincount(self.labels_N[self.right], minlength=self.classes)

    def _predicted(self) -> Counts:
        return np.bincount(self.likeliest_N, minlength=self.classes)


def outcome(probabilities_NK: NDArray[np.floating[Any]], labels_N: NDArray[np.integer[Any]]) -> Outcome:
    """Counts the predictions on a split, of which each is the likeliest label.

    Args:
        probabilities_NK: of each of K labels for each of N records.
        labels_N: the right ones.
    """
    return Outcome(probabilities_NK.argmax(1), labels_N, probabilities_NK.max(1), probabilities_NK.shape[1])


def by_confidence(sure_N: NDArray[np.floating[Any]], right_N: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Predictions by their probability: {low, high, records, confidence, accuracy} of each bin (low, high] of `BINS`.

    `confidence` and `accuracy` are means over its records, None where it has none.

    Args:
        sure_N: the probability of each prediction.
        right_N: whether it is right.
    """
    edges = np.linspace(0, 1, BINS + 1)
    bin_N = np.clip(np.searchsorted(edges, sure_N, side="left") - 1, 0, BINS - 1)
    told = []
    for number, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        here_N = bin_N == number
        means = (
            (float(sure_N[here_N].mean()), float(right_N[here_N].mean())) if here_N.any() else (None, None)
        )
        told.append(
            {
                "low": low,
                "high": high,
                "records": int(here_N.sum()),
                "confidence": means[0],
                "accuracy": means[1],
            }
        )
    return told


def apart(bins: list[dict[str, Any]]) -> float:
    """How far confidence and accuracy lie apart, over some bins.

    Args:
        bins: as of `by_confidence`.

    Returns:
        The mean distance of confidence and accuracy over records, 0 to 1.
    """
    filled = [each for each in bins if each["records"]]
    total = sum(each["records"] * abs(each["confidence"] - each["accuracy"]) for each in filled)
    return float(total / sum(each["records"] for each in filled))


def _macro_f1(drawn_RP: Counts, pairs_2P: Counts, classes_K: Counts) -> Floats:
    """The mean F1 of some resamples, given as counts of the pairs of right and predicted class, over the classes that they have."""
    hits_RK, had_RK, given_RK = (
        _by_class(drawn_RP[:, chosen], pairs_2P[side, chosen], classes_K)
        for side, chosen in ((0, pairs_2P[0] == pairs_2P[1]), (0, slice(None)), (1, slice(None)))
    )
    both_RK = had_RK + given_RK
    means_R: Floats = (2 * hits_RK / np.maximum(both_RK, 1)).sum(1) / (both_RK > 0).sum(1)
    return means_R


def _by_class(counts_RP: Counts, class_P: Counts, classes_K: Counts) -> Counts:
    """Sums of counts over the pairs of each class."""
    sums_RK = np.zeros((len(counts_RP), len(classes_K)), np.int64)
    order = np.argsort(class_P, kind="stable")
    there, starts = np.unique(class_P[order], return_index=True)
    if len(there):
        sums_RK[:, np.searchsorted(classes_K, there)] = np.add.reduceat(counts_RP[:, order], starts, axis=1)
    return sums_RK


def shares(part_K: Counts, whole_K: Counts) -> Floats:
    """What share each of K counts has in the whole beside it; 0 where the whole is nothing.

    Args:
        part_K, whole_K: the counts.
    """
    shares_K: Floats = part_K / np.maximum(whole_K, 1)
    return shares_K
