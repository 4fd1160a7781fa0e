"""Scores of a model that tells classes apart, beside always naming the class that is the most frequent in training.

Shapes: N records of a split, B of a batch, T tokens of a row, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Images, Manifest, Rows, load_tokenizer, open_split
from ..hardware import choose_precision, detect
from ..inference import Labeller
from ..models import AnyNetwork
from ..progress import Progress
from ..recipe import Recipe
from ..tasks import task_named
from ..vault import Store
from .slices import by_label, by_length, by_owner

SAMPLES, SHOWN = 3, 5  # records of the split, and of the worst errors
SHOWN_CHARS = 300  # of a record that is shown


def score_labels(
    recipe: Recipe, store: Store, manifest: Manifest, model: AnyNetwork, progress: Progress
) -> tuple[dict[str, float], dict[str, Any]]:
    """Scores of the held-out splits, and what stands behind them.

    Returns:
        ({"SPLIT.METRIC": value}, {split: details of every label, accuracy by slices, and the worst errors}).
    """
    at_once = recipe.train.micro_batch
    assert isinstance(at_once, int)  # resolved; what training had room for, this has too
    labeller = Labeller(model, choose_precision(recipe.train.precision, detect()))
    task = task_named(recipe.task)
    frequent = int(np.argmax(_records(recipe, store, manifest, "train").counts))
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {}
    for split in ("validation", "test"):
        if split not in manifest.splits or not manifest.splits[split].records:
            continue
        records = _records(recipe, store, manifest, split)
        found, labels, lengths = [], [], []
        with progress.stage(f"score on {split}", records.count, "records") as stage:
            for inputs, targets_B1 in records.in_order(at_once):
                found.append(labeller.probabilities(inputs))
                labels.append(targets_B1[:, 0])
                lengths.append((inputs >= 0).reshape(len(inputs), -1).sum(1))
                stage.advance(len(inputs))
        probabilities_NK, labels_N = np.concatenate(found), np.concatenate(labels)
        scores = task.label_metrics(probabilities_NK, labels_N)
        scores["majority_accuracy"] = float((labels_N == frequent).mean())
        metrics |= {f"{split}.{name}": value for name, value in scores.items()}
        hits = (probabilities_NK.argmax(1) == labels_N).astype(float).tolist()
        names = [manifest.labels[label] for label in labels_N.tolist()]
        slices = by_label(names, hits)
        if manifest.image is None:
            slices = by_length(np.concatenate(lengths).tolist(), hits, "tokens") + slices
        if recipe.data.owner:
            slices += by_owner(records.owners_R.tolist(), hits)
        wrong = most_wrong(probabilities_NK, labels_N)
        shown = _shown(records.at(wrong)[0], store, manifest, split) if manifest.image is None else []
        details[split] = task.label_details(probabilities_NK, labels_N, manifest.labels) | {
            "measure": "accuracy",
            "slices": slices,
            "worst": [
                told_wrong(text, probabilities_NK[number], int(labels_N[number]), manifest.labels)
                for text, number in zip(shown, wrong.tolist(), strict=False)  # no image is shown
            ],
        }
    return metrics, details


def most_wrong(
    probabilities_NK: NDArray[np.floating[Any]], labels_N: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """The records whose right label was thought least likely, of those that were told wrong, at most `SHOWN`."""
    sure_N = np.take_along_axis(probabilities_NK, labels_N[:, None], 1)[:, 0]
    order = np.argsort(sure_N, kind="stable")
    wrong_N = probabilities_NK.argmax(1) != labels_N
    worst: NDArray[np.int64] = order[wrong_N[order]][:SHOWN]
    return worst


def told_wrong(
    text: str, probabilities_K: NDArray[np.floating[Any]], right: int, labels: Sequence[str]
) -> dict[str, Any]:
    """A wrong label as JSON can hold it: {prompt, answer, right, score}, the score the probability of the right one."""
    said = labels[int(probabilities_K.argmax())]
    score = float(probabilities_K[right])
    return {"prompt": text, "answer": said, "right": labels[right], "score": score}


def label_samples(
    recipe: Recipe, store: Store, manifest: Manifest, model: AnyNetwork
) -> list[dict[str, Any]]:
    """A few held-out records: the text, or that it is an image, what the model says of it, and its label."""
    split = "validation" if "validation" in manifest.splits else "train"
    records = _records(recipe, store, manifest, split)
    inputs, targets_B1 = records.batch(0, min(SAMPLES, records.count), recipe.seed)
    labeller = Labeller(model, choose_precision(recipe.train.precision, detect()))
    samples = []
    for text, target, probabilities_K in zip(
        _shown(inputs, store, manifest, split), targets_B1[:, 0], labeller.probabilities(inputs), strict=True
    ):
        best = int(probabilities_K.argmax())
        said = f" → {manifest.labels[best]} ({probabilities_K[best]:.2f}); label: {manifest.labels[target]}"
        samples.append({"prompt": text, "text": said})
    return samples


def _records(recipe: Recipe, store: Store, manifest: Manifest, split: str) -> Rows | Images:
    records = open_split(store, manifest, split, recipe.model.context)
    assert isinstance(records, Rows | Images)  # no others have labels
    return records


def _shown(inputs: NDArray[np.integer[Any]], store: Store, manifest: Manifest, split: str) -> list[str]:
    """The beginning of each text; an image is not shown."""
    if manifest.image is not None:
        return [f"An image of {split}"] * len(inputs)
    tokenizer = load_tokenizer(store)
    return [tokenizer.decode(row_T[row_T >= 0].tolist())[:SHOWN_CHARS] for row_T in inputs]
