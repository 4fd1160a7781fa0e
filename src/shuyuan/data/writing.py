"""The last pass: kept records become tokens or pixels, and these become shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..progress import Progress
from ..recipe import Recipe
from ..tasks import task_named
from ..tasks.packing import in_texts
from ..vault import Store
from .canaries import make_canaries
from .manifest import Pair, Split
from .masking import Masker
from .split import SPLITS, TRAIN
from .survey import Survey
from .tokenizer import Tokenizer
from .writers import ImageWriter, PairWriter, PromptWriter, SplitWriter, TextWriter

_BATCH_SIZE = 1_000_000  # characters encoded at once, or bytes of pixels


def write_texts(
    recipe: Recipe,
    survey: Survey,
    tokenizer: Tokenizer,
    masker: Masker,
    store: Store,
    progress: Progress,
    around: Pair | None = None,
) -> dict[str, Split]:
    """Masks and encodes every kept record and writes the shards of each split; plants the canaries that are asked for.

    Args:
        recipe: says what the task is.
        survey: which records are kept, and where each belongs.
        tokenizer: of the run.
        masker: of the run.
        store: the run's files.
        progress: shows it.
        around: of a task whose answers are places in a text: what stands around question and text.

    Returns:
        What was written, by split: train, validation, and test where some record is in it.
    """
    if around is not None:
        return _write_pairs(recipe, survey, tokenizer, around, masker, store, progress)
    if task_named(recipe.task).prompted:
        return _write_prompts(recipe, survey, tokenizer, masker, store, progress)
    writers = {name: TextWriter(store, name, tokenizer) for name in _splits(survey)}
    _pour(survey, writers, masker, progress)
    if recipe.audit.canaries:
        count, context = recipe.audit.canaries, recipe.model.context
        canaries = make_canaries(count, tokenizer.vocab_size, tokenizer.end_id, context)
        canaries.save(store)
        writers[SPLITS[TRAIN]].add_canaries(canaries)
    return {name: writer.finish() for name, writer in writers.items()}


def _write_prompts(
    recipe: Recipe, survey: Survey, tokenizer: Tokenizer, masker: Masker, store: Store, progress: Progress
) -> dict[str, Split]:
    """The same of records with prompts; those that do not fit are counted among what the survey skipped."""
    context = recipe.model.context
    writers = {name: PromptWriter(store, name, tokenizer, context) for name in _splits(survey)}
    _pour(survey, writers, partial(in_texts, masker), progress)
    if left_out := sum(writer.left_out for writer in writers.values()):
        survey.skipped[f"records whose answer does not fit model.context = {context:,}"] += left_out
    splits = {name: writer.finish() for name, writer in writers.items()}
    if shortened := sum(writer.shortened for writer in writers.values()):
        progress.say(
            "data.shortened",
            f"{shortened:,} of {sum(split.rows for split in splits.values()):,} prompts are longer than model.context = {context:,} "
            "and are shortened; their answers are whole.",
        )
    return splits


def _write_pairs(
    recipe: Recipe,
    survey: Survey,
    tokenizer: Tokenizer,
    around: Pair,
    masker: Masker,
    store: Store,
    progress: Progress,
) -> dict[str, Split]:
    """The same of questions and texts."""
    context = recipe.model.context
    writers = {name: PairWriter(store, name, tokenizer, around, context) for name in _splits(survey)}
    _pour(survey, writers, partial(in_texts, masker), progress)
    for writer in writers.values():
        survey.skipped.update(writer.left_out)
    if cut := sum(writer.cut for writer in writers.values()):
        progress.say(
            "data.cut-questions",
            f"{cut:,} questions take more than half of model.context = {context:,} and are cut.",
        )
    return {name: writer.finish() for name, writer in writers.items()}


def write_images(survey: Survey, store: Store, progress: Progress) -> dict[str, Split]:
    """Writes the shards of each split of images; returns as `write_texts`."""
    writers = {name: ImageWriter(store, name) for name in _splits(survey)}
    _pour(survey, writers, lambda pixels: pixels, progress)
    return {name: writer.finish() for name, writer in writers.items()}


def _splits(survey: Survey) -> list[str]:
    return [name for number, name in enumerate(SPLITS) if number < 2 or (survey.split_R == number).any()]


def _pour(
    survey: Survey,
    writers: Mapping[str, SplitWriter],
    prepared: Callable[[Any], Any],
    progress: Progress,
) -> None:
    """Gives every kept record to the writer of its split, many at once."""
    waiting: dict[str, list[tuple[int, Any]]] = {name: [] for name in writers}
    size = dict.fromkeys(writers, 0)
    with progress.stage("write shards", int(survey.bytes_R[survey.kept_R].sum()), "bytes") as stage:

        def write(name: str) -> None:
            batch, waiting[name], size[name] = waiting[name], [], 0
            numbers = [number for number, _ in batch]
            labels = survey.labels_R[numbers] if survey.labels else None
            writers[name].add([content for _, content in batch], survey.owners_R[numbers], labels)
            stage.advance(int(survey.bytes_R[numbers].sum()))

        for number, content in survey.contents(survey.kept_R):
            name = SPLITS[survey.split_R[number]]
            waiting[name].append((number, prepared(content)))
            size[name] += len(content)
            if size[name] >= _BATCH_SIZE:
                write(name)
        for name in writers:
            if waiting[name]:
                write(name)
