"""Scores of a model that tells classes apart, beside always naming the class that is the most frequent in training.

Shapes: N records of a split, B of a batch, T tokens of a row, K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import Manifest, Rows, load_tokenizer
from ..hardware import choose_precision, detect
from ..inference import Labeller
from ..models.hub import Network
from ..progress import Progress
from ..recipe import Recipe
from ..tasks import task_named
from ..vault import Store

SAMPLES = 3
SHOWN_CHARS = 300  # of a record that is shown


def score_labels(
    recipe: Recipe, store: Store, manifest: Manifest, model: Network, progress: Progress
) -> dict[str, float]:
    """{"SPLIT.METRIC": value} of the held-out splits."""
    context = recipe.model.context
    at_once = recipe.train.micro_batch
    assert isinstance(at_once, int)  # resolved; what training had room for, this has too
    labeller = Labeller(model, choose_precision(recipe.train.precision, detect()))
    frequent = int(np.argmax(Rows(store, manifest, "train", context).counts))
    metrics: dict[str, float] = {}
    for split in ("validation", "test"):
        if split not in manifest.splits or not manifest.splits[split].records:
            continue
        rows = Rows(store, manifest, split, context)
        found, labels = [], []
        with progress.stage(f"score on {split}", rows.count, "records") as stage:
            for inputs_BT, targets_B1 in rows.in_order(at_once):
                found.append(labeller.probabilities(inputs_BT))
                labels.append(targets_B1[:, 0])
                stage.advance(len(inputs_BT))
        labels_N = np.concatenate(labels)
        scores = task_named(recipe.task).label_metrics(np.concatenate(found), labels_N)
        scores["majority_accuracy"] = float((labels_N == frequent).mean())
        metrics |= {f"{split}.{name}": value for name, value in scores.items()}
    return metrics


def label_samples(recipe: Recipe, store: Store, manifest: Manifest, model: Network) -> list[dict[str, Any]]:
    """A few held-out records: the text, what the model says of it, and its label."""
    split = "validation" if "validation" in manifest.splits else "train"
    rows = Rows(store, manifest, split, recipe.model.context)
    inputs_BT, targets_B1 = rows.batch(0, min(SAMPLES, rows.count), recipe.seed)
    labeller = Labeller(model, choose_precision(recipe.train.precision, detect()))
    tokenizer = load_tokenizer(store)
    samples = []
    for row_T, target, probabilities_K in zip(
        inputs_BT, targets_B1[:, 0], labeller.probabilities(inputs_BT), strict=True
    ):
        text = tokenizer.decode(row_T[row_T >= 0].tolist())
        best = int(probabilities_K.argmax())
        said = f" → {manifest.labels[best]} ({probabilities_K[best]:.2f}); label: {manifest.labels[target]}"
        samples.append({"prompt": text[:SHOWN_CHARS], "text": said})
    return samples
