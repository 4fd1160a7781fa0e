"""What a model that tells any number of labels got right and wrong: each label of each record is a decision of its own.

By hand in numpy for the same reason as `confusion`; the tests compare with scikit-learn.

Legend: N records, K labels, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .confusion import CONFIDENCE, RESAMPLES, Counts, Floats, apart, by_confidence, shares
from .measures import interval, with_interval

THRESHOLD = 0.5  # of a label's probability, from which on it is told
DRAWN_AT_ONCE = 2**22  # counts that are held


@dataclass(frozen=True)
class Decisions:
    """The decisions on a split, counted. What has nothing to be a share of is 0.

    Attributes:
        probabilities_NK: of each label.
        labels_NK: whether the record has it.
        told_NK: whether the model says so.
    """

    probabilities_NK: NDArray[np.floating[Any]]
    labels_NK: NDArray[np.bool_]
    told_NK: NDArray[np.bool_]

    @cached_property
    def exact(self) -> Floats:
        """1 for each record of which all labels are told, and no others."""
        exact_N: Floats = (self.told_NK == self.labels_NK).all(1).astype(np.float64)
        return exact_N

    @cached_property
    def record_f1(self) -> Floats:
        """F1 of each record's labels; 1 where it has none and none is told."""
        both_N = self.told_NK.sum(1) + self.labels_NK.sum(1)
        hits_N = (self.told_NK & self.labels_NK).sum(1)
        return np.where(both_N > 0, 2 * hits_N / np.maximum(both_N, 1), 1.0)

    @cached_property
    def sure(self) -> Floats:
        """The probability of exactly the right labels, if each is told by itself."""
        right_NK = np.where(self.labels_NK, self.probabilities_NK, 1 - self.probabilities_NK)
        sure_N: Floats = right_NK.astype(np.float64).prod(1)
        return sure_N

    def metrics(self) -> dict[str, float]:
        """The sum over labels of binary cross entropies in nats, its mean over records; the share of records that are told exactly; F1
        over all decisions (micro) and its mean over labels (macro), each with an interval; precision and recall over all; the
        share of decisions that are wrong (hamming_loss); how far probabilities and what is so lie apart, over all decisions."""
        right_NK = np.where(self.labels_NK, self.probabilities_NK, 1 - self.probabilities_NK)
        logs_NK = np.log(np.maximum(right_NK.astype(np.float64), np.finfo(np.float64).tiny))
        hits, told, had = (int(count_K.sum()) for count_K in self._counts())
        micro, macro = self._f1_intervals()
        return {
            "loss": float(-logs_NK.sum(1).mean()),
            **with_interval("exact_labels", interval(self.exact.tolist())),
            "micro_precision": hits / max(1, told),
            "micro_recall": hits / max(1, had),
            **with_interval("micro_f1", (2 * hits / max(1, told + had), *micro)),
            **with_interval("macro_f1", (self._macro_f1(), *macro)),
            "hamming_loss": float((self.told_NK != self.labels_NK).mean()),
            "calibration_error": apart(self.bins()),
        }

    def bins(self) -> list[dict[str, Any]]:
        """All decisions by the label's probability; `accuracy` is how many of the records have it."""
        return by_confidence(self.probabilities_NK.ravel(), self.labels_NK.ravel())

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """As `confusion.Outcome.to_json`; nothing is taken for another, so `confusion` is None.

        Args:
            names: the labels in order.
        """
        hits_K, told_K, had_K = self._counts()
        columns = zip(
            names,
            had_K.tolist(),
            shares(hits_K, told_K).tolist(),
            shares(hits_K, had_K).tolist(),
            shares(2 * hits_K, told_K + had_K).tolist(),
            strict=True,
        )
        keys = ("label", "records", "precision", "recall", "f1")
        classes = [dict(zip(keys, column, strict=True)) for column in columns]
        return {"classes": classes, "confusion": None, "calibration": self.bins()}

    def _counts(self) -> tuple[Counts, Counts, Counts]:
        """Of each label: records that have it and are told it, that are told it, that have it."""
        hits_NK = self.told_NK & self.labels_NK
        return hits_NK.sum(0), self.told_NK.sum(0), self.labels_NK.sum(0)

    def _macro_f1(self) -> float:
        """The mean over the labels that stand in the split or were told."""
        hits_K, told_K, had_K = self._counts()
        both_K = told_K + had_K
        return float(shares(2 * hits_K, both_K)[both_K > 0].mean()) if both_K.any() else 0.0

    def _f1_intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Of the micro and the macro F1 on records like these: a percentile bootstrap over records."""
        count = len(self.labels_NK)
        hits_NK = (self.told_NK & self.labels_NK).astype(np.float32)
        both_NK = self.told_NK.astype(np.float32) + self.labels_NK.astype(np.float32)
        random, at_once = np.random.default_rng(0), max(1, DRAWN_AT_ONCE // (count + hits_NK.shape[1]))
        micro, macro = [], []
        for start in range(0, RESAMPLES, at_once):
            size = min(at_once, RESAMPLES - start)
            drawn_RN = random.multinomial(count, np.full(count, 1 / count), size).astype(np.float32)
            hits_RK, both_RK = drawn_RN @ hits_NK, drawn_RN @ both_NK
            micro.append(2 * hits_RK.sum(1) / np.maximum(both_RK.sum(1), 1))
            there_R = np.maximum((both_RK > 0).sum(1), 1)
            macro.append((2 * hits_RK / np.maximum(both_RK, 1)).sum(1) / there_R)
        return _middle(micro), _middle(macro)


def decisions(probabilities_NK: NDArray[np.floating[Any]], labels_NK: NDArray[Any]) -> Decisions:
    """The decisions on a split: every label is told whose probability is at least THRESHOLD.

    Args:
        probabilities_NK: of each of K labels for each of N records, each by itself.
        labels_NK: one where a record has the label, else zero.
    """
    return Decisions(probabilities_NK, labels_NK.astype(bool), probabilities_NK >= THRESHOLD)


def _middle(values: list[NDArray[np.floating[Any]]]) -> tuple[float, float]:
    low, high = np.quantile(np.concatenate(values), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
