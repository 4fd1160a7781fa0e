"""Scores of a run's model on a file of one's own, with intervals, and by the length of the texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Tokenizer, load_task, load_tokenizer
from ..data.clean import clean
from ..data.masking import Masker
from ..data.records import empty
from ..data.sources import Skipped, Wanted, open_source
from ..errors import DataError, RunError
from ..hardware import choose_precision, detect
from ..inference import Labeller, Predictor, computed
from ..models import AnyNetwork, load_network
from ..progress import Progress
from ..recipe import Recipe
from ..recipe import from_table as recipe_of
from ..runs import not_trained
from ..tasks import Example, Mixed, Prompted, Task
from ..tasks.languages import words
from ..tasks.measures import check_installed, interval, with_interval
from ..tasks.packing import changed
from ..tasks.prompted import Case, case_of
from ..vault import Store
from .predictions import SHOWN, SHOWN_CHARS, by_length, judged

LIMIT = 500  # records of a file that are scored, unless another number is asked for


def evaluate_file(
    recipe: Recipe,
    store: Store,
    file: str | Path,
    progress: Progress,
    *,
    task: str | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int = LIMIT,
) -> dict[str, Any]:
    """Scores the model on the records of a file, read, cleaned and masked as the run's own.

    Args:
        recipe: of the run, as resolved.
        store: the run's files.
        file: as a recipe's `data.source`.
        progress: shows the records done.
        task: what the model is asked to do; None: what it was trained for.
        columns: field to column, where they have other names than in the recipe.
        limit: records at most, the first of the file.

    Returns:
        {task, file, records, skipped, scores, slices, worst}.

    Raises:
        RunError: there is no model, or it has no head for the task.
        DataError: the file cannot be read, or has no such column.
        MachineError: a library for the task's scores is missing.
    """
    if not store.exists("model"):
        raise not_trained(store.path)
    asked = _asked(recipe, Path(file).absolute(), task or recipe.task, dict(columns or {}))
    chosen = _chosen(recipe, asked, store)
    check_installed(chosen)
    skipped = Skipped()
    records = _records(asked, chosen, skipped, limit)
    if not records:
        raise empty(skipped)
    model, tokenizer = load_network(store), load_tokenizer(store)
    if (chosen.output == "labels") != bool(model.config.labels):
        raise RunError(
            "run.other-task",
            f"The run is for {recipe.task}, and its model has no head for {asked.task}.",
            where="--task",
            mend="Leave it out, or train a run for that task.",
        )
    if isinstance(chosen, Prompted):
        predictor = Predictor(model, tokenizer, chosen, progress)
        records = _that_fit(records, predictor, skipped)
        found = _of_answers(records, predictor, Path(file).name, progress)
    elif chosen.output == "labels":
        found = _of_labels(recipe, chosen, records, model, tokenizer, progress)
    else:
        found = _of_texts(recipe, chosen, records, model, tokenizer, progress)
    about = {"task": asked.task, "file": str(file), "records": len(records), "skipped": dict(skipped)}
    return about | found


def _chosen(recipe: Recipe, asked: Recipe, store: Store) -> Task:
    """The task as the run fixes it, also where it is one of several; else as any run would."""
    own = load_task(recipe, store)
    part = own.part(asked.task) if isinstance(own, Mixed) else None
    return part or (own if asked.task == recipe.task else load_task(asked))


Record = tuple[Example, list[str]]  # and all right answers


def _asked(recipe: Recipe, file: Path, task: str, columns: dict[str, str]) -> Recipe:
    """The recipe of reading that file; of the run's own it keeps columns, languages, masking and limits."""
    table = recipe.model_dump(by_alias=True, exclude_none=True)
    kept = ["mask", "mask_patterns", "mask_names", "min_chars", "max_chars", "record"]
    if task == recipe.task:
        kept += [*recipe.columns, "languages", "labels"]
    data = {key: table["data"][key] for key in kept if key in table["data"]}
    asked = {"task": task, "data": data | columns | {"source": str(file)}, "model": table["model"]}
    return recipe_of(asked | {"tokenizer": table["tokenizer"]}, where="--column")


def _records(recipe: Recipe, task: Task, skipped: Skipped, limit: int) -> list[Record]:
    data, fields = recipe.data, recipe.columns
    masker = Masker(data.mask, data.mask_patterns, names=data.mask_names)
    wanted = Wanted(data.text, tuple(task.columns(fields)), data.record or "line")
    found: list[Record] = []

    def prepared(text: str) -> str:
        return masker(clean(text))

    for values, where in open_source(data.source, wanted).rows(skipped):
        for row, place in task.records(values, fields, where):
            lacking = task.lacking(row, fields)
            if lacking is not None:
                skipped[f"records without {lacking}"] += 1
                continue
            for example in task.examples(row, fields, place):
                if example.label == "":
                    skipped["records without a label"] += 1
                    continue
                right = task.right(row, fields, example) if isinstance(task, Prompted) else []
                found.append((changed(prepared, example), [*map(prepared, right)]))
            if len(found) >= limit:
                return found[:limit]
    return found


def _that_fit(records: list[Record], predictor: Predictor, skipped: Skipped) -> list[Record]:
    """The records whose prompts the model can see, as in preparation; the others are counted.

    Raises:
        DataError: there is none.
    """
    fit = [(example, right) for example, right in records if predictor.sees(case_of(example, right).prompt)]
    if left_out := len(records) - len(fit):
        skipped[f"records whose prompt does not fit {predictor.context:,} tokens"] += left_out
    if not fit:
        raise empty(skipped)
    return fit


def _of_answers(
    records: Sequence[Record], predictor: Predictor, name: str, progress: Progress
) -> dict[str, Any]:
    cases: list[Case] = [case_of(example, right) for example, right in records]
    scores, details, _ = judged(cases, predictor, [], name, progress)
    return {"scores": scores, **details}


def _of_labels(
    recipe: Recipe,
    task: Task,
    records: Sequence[Record],
    model: AnyNetwork,
    tokenizer: Tokenizer,
    progress: Progress,
) -> dict[str, Any]:
    labeller = Labeller(model, choose_precision(recipe.train.precision, detect()))
    labels = list(labeller.labels)
    unknown = sorted({example.label or "" for example, _ in records} - set(labels))
    if unknown:
        raise DataError(
            "data.unknown-label",
            f'The label "{unknown[0][:40]}" is none of: {", ".join(labels[:12])}.',
            where="--data",
            mend="Name the column of the labels with --column label=NAME, or mend the file.",
        )
    texts = [example.text for example, _ in records]
    with progress.stage("classify", len(texts), "texts") as stage:
        told = []
        for each in labeller.label(texts, tokenizer):
            told.append([each[label] for label in labels])
            stage.advance()
    probabilities_NK = np.array(told)
    right_N = np.array([labels.index(example.label or "") for example, _ in records])
    hits = (probabilities_NK.argmax(1) == right_N).astype(float)
    sure = probabilities_NK[np.arange(len(right_N)), right_N]
    worst = [
        {"prompt": texts[place][:SHOWN_CHARS], "answer": labels[int(probabilities_NK[place].argmax())],
         "right": labels[int(right_N[place])], "score": float(sure[place])}
        for place in np.argsort(sure, kind="stable")[:SHOWN].tolist() if not hits[place]
    ]  # fmt: skip
    lengths = [len(words(text)) for text in texts]
    return {
        "scores": task.label_metrics(probabilities_NK, right_N),
        "measure": "accuracy",
        "slices": by_length(lengths, hits.tolist()),
        "worst": worst,
    }


def _of_texts(
    recipe: Recipe,
    task: Task,
    records: Sequence[Record],
    model: AnyNetwork,
    tokenizer: Tokenizer,
    progress: Progress,
) -> dict[str, Any]:
    """The loss on each text, in pieces as long as the context."""
    network, context = computed(model, choose_precision(recipe.train.precision, detect())), model.context
    losses, tokens, sizes, texts = [], [], [], [example.text for example, _ in records]
    with progress.stage("score", len(texts), "texts") as stage:
        for text in texts:
            stream = np.array([tokenizer.end_id, *tokenizer.encode(text), tokenizer.end_id])
            total = 0.0
            for start in range(0, len(stream) - 1, context):
                piece = stream[start : start + context + 1]
                total += network.loss(piece[None, :-1].copy(), piece[None, 1:].copy())
            losses.append(total)
            tokens.append(len(stream) - 1)
            sizes.append(max(1, len(text.encode())))
            stage.advance()
    bits = [loss / np.log(2) / size for loss, size in zip(losses, sizes, strict=True)]
    scores = task.metrics(sum(losses) / sum(tokens), sum(tokens), sum(sizes))
    scores |= with_interval("bits_per_byte_of_a_record", interval(bits))
    order = np.argsort(bits, kind="stable")[::-1][:SHOWN].tolist()
    worst = [
        {"prompt": texts[place][:SHOWN_CHARS], "answer": "", "right": "", "score": bits[place]}
        for place in order
    ]
    slices = by_length([len(words(text)) for text in texts], bits)
    return {"scores": scores, "measure": "bits_per_byte", "slices": slices, "worst": worst}
