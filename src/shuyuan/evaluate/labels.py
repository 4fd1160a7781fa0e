"""Scores of a model that tells classes apart, beside always naming what most of training has.

Shapes: N records of a split, B of a batch, K labels.
"""

from __future__ import annotations

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
from ..tasks.multi_label import decisions
from ..vault import Store
from .slices import by_label, by_length, by_owner
from .telling import telling

SAMPLES = 3  # records of the split
SHOWN_CHARS = 300  # of a record that is shown


def score_labels(
    recipe: Recipe, store: Store, manifest: Manifest, model: AnyNetwork, progress: Progress
) -> tuple[dict[str, float], dict[str, Any]]:
    """Scores of the held-out splits, and what stands behind them.

    Args:
        recipe: resolved.
        store: the run's files.
        manifest: what was prepared, for a task with labels.
        model: the run's, or a variant of it.
        progress: shows a stage for each split.

    Returns:
        ({"SPLIT.METRIC": value}, {split: details of every label, scores by slices, and the worst errors}).
    """
    at_once = recipe.train.micro_batch
    assert isinstance(at_once, int)  # resolved; what training had room for, this has too
    labeller = Labeller(model, choose_precision(recipe.train.precision, detect()))
    task = task_named(recipe.task)
    training = _records(recipe, store, manifest, "train")
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {}
    for split in ("validation", "test"):
        if split not in manifest.splits or not manifest.splits[split].records:
            continue
        records = _records(recipe, store, manifest, split)
        found, targets, lengths = [], [], []
        with progress.stage(f"score on {split}", records.count, "records") as stage:
            for inputs, targets_B1 in records.in_order(at_once):
                found.append(labeller.probabilities(inputs))
                targets.append(targets_B1[:, 0])
                lengths.append((inputs >= 0).reshape(len(inputs), -1).sum(1))
                stage.advance(len(inputs))
        told = telling(np.concatenate(found), np.concatenate(targets), manifest.labels)
        scores = task.label_metrics(told.probabilities_NK, told.right) | _majority(training, told.right)
        metrics |= {f"{split}.{name}": value for name, value in scores.items()}
        values = told.values[told.measure]
        slices = by_label(told.names, values)
        if manifest.image is None:
            slices = by_length(np.concatenate(lengths).tolist(), values, "tokens") + slices
        if recipe.data.owner:
            slices += by_owner(records.owners_R.tolist(), values)
        wrong = told.worst()
        shown = _shown(records.at(wrong)[0], store, manifest, split) if manifest.image is None else []
        details[split] = task.label_details(told.probabilities_NK, told.right, manifest.labels) | {
            "measure": told.measure,
            "slices": slices,
            "worst": [
                told.error(number, text)
                for text, number in zip(shown, wrong.tolist(), strict=False)  # no image is shown
            ],
        }
    return metrics, details


def _majority(training: Rows | Images, right: NDArray[np.integer[Any]]) -> dict[str, float]:
    """The score of always saying what most training records have: the most frequent label, or each label that more than half of
    them have."""
    counts_K = np.array(training.counts)
    if right.ndim == 1:
        return {"majority_accuracy": float((right == counts_K.argmax()).mean())}
    found = decisions(np.broadcast_to(counts_K / training.count, right.shape), right).metrics()
    return {f"majority_{name}": found[name] for name in ("exact_labels", "micro_f1")}


def label_samples(
    recipe: Recipe, store: Store, manifest: Manifest, model: AnyNetwork
) -> list[dict[str, Any]]:
    """A few held-out records: the text, or that it is an image, what the model says of it, and its label.

    Args:
        recipe: resolved.
        store: the run's files.
        manifest: what was prepared, for a task with labels.
        model: the run's, or a variant of it.

    Returns:
        [{prompt, text}], of `SAMPLES` records at most; of training where none are held out.
    """
    split = "validation" if "validation" in manifest.splits else "train"
    records = _records(recipe, store, manifest, split)
    inputs, targets_B1 = records.batch(0, min(SAMPLES, records.count), recipe.seed)
    labeller = Labeller(model, choose_precision(recipe.train.precision, detect()))
    told = telling(labeller.probabilities(inputs), targets_B1[:, 0], manifest.labels)
    shown = _shown(inputs, store, manifest, split)
    return [{"prompt": text, "text": told.sample(number)} for number, text in enumerate(shown)]


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
