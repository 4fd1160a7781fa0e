"""Labelled texts with a training and a test part, and what a user tries first on them: TF-IDF with logistic regression."""

from __future__ import annotations

import csv
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

Rows = list[tuple[str, str]]  # text and label
WORDS: dict[str, Any] = {"ngram_range": (1, 2)}
CHARACTERS: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 3), "min_df": 2}


@dataclass
class Labelled:
    """A data set.

    Attributes:
        task: as in a recipe.
        train, test: its parts.
        features: of its texts, for TF-IDF.
    """

    task: str
    train: Rows
    test: Rows
    features: dict[str, Any]

    def written(self, folder: Path) -> dict[str, Any]:
        """Writes both parts as tables; the [data] of a recipe that learns from one and is scored on the other at its end."""
        for name, rows in (("train", self.train), ("test", self.test)):
            with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("text", "label"), *rows])
        return {"source": str(folder / "train.csv"), "validation": 0.05, "test": str(folder / "test.csv")}

    def tf_idf(self) -> tuple[float, float]:
        """Accuracy on the test part, and seconds."""
        begin = time.perf_counter()
        model = make_pipeline(
            TfidfVectorizer(sublinear_tf=True, **self.features), LogisticRegression(C=10.0, max_iter=1000)
        )
        model.fit([text for text, _ in self.train], [label for _, label in self.train])
        right = model.score([text for text, _ in self.test], [label for _, label in self.test])
        return float(right), time.perf_counter() - begin


def sst2(data: Path) -> Labelled:
    """Phrases of film reviews; the 872 test sentences are GLUE's development set."""

    def rows(file: str) -> Rows:
        lines = (data / "sentiment" / file).read_text(encoding="utf-8").splitlines()[1:]
        return [tuple(line.rsplit("\t", 1)) for line in lines]  # type: ignore[misc]

    return Labelled("sentiment", rows("sst2_train.tsv"), rows("sst2_test.tsv"), WORDS)


def hotel(data: Path) -> Labelled:
    """ChnSentiCorp's hotel reviews; a tenth of the different ones is the test part."""
    with (data / "sentiment/ChnSentiCorp_htl_all.csv").open(encoding="utf-8") as file:
        rows = [(row["review"], row["label"]) for row in csv.DictReader(file) if row["review"].strip()]
    rows = list({text: (text, label) for text, label in rows}.values())
    random.Random(1).shuffle(rows)
    held_out = len(rows) // 10
    return Labelled("sentiment", rows[held_out:], rows[:held_out], CHARACTERS)


def banking77(data: Path) -> Labelled:
    """Customers' questions to a bank, with 77 intents."""

    def rows(file: str) -> Rows:
        with (data / "dialogue" / file).open(encoding="utf-8") as lines:
            return [(row["text"], row["category"]) for row in csv.DictReader(lines)]

    return Labelled("classification", rows("banking77_train.csv"), rows("banking77_test.csv"), WORDS)


SETS = {"sst2": sst2, "hotel": hotel, "banking77": banking77}
