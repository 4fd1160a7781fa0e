"""The last pass: kept records become tokens or pixels, and these become shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..progress import Progress
from ..recipe import Recipe
from ..tasks import task_named
from ..vault import Store
from .canaries import make_canaries
from .encoding import PairEncoding, PromptEncoding, TextEncoding
from .manifest import Pair, Split
from .masking import Masker
from .split import SPLITS, TRAIN
from .survey import Survey
from .tokenizer import Tokenizer
from .workers import Workers
from .writers import ImageWriter, TextWriter

_BATCH_SIZE = 1_000_000  # characters encoded at once, or bytes of pixels


def write_texts(
    recipe: Recipe,
    survey: Survey,
    tokenizer: Tokenizer,
    masker: Masker,
    store: Store,
    progress: Progress,
    workers: Workers,
    around: Pair | None = None,
) -> tuple[dict[str, Split], dict[str, int]]:
    """Masks and encodes every kept record and writes the shards of each split; plants the canaries that are asked for.

    Records with prompts that do not fit are counted among what the survey skipped.

    Args:
        recipe: says what the task is.
        survey: which records are kept, and where each belongs.
        tokenizer: of the run.
        masker: of the run.
        store: the run's files.
        progress: shows it.
        workers: mask and encode.
        around: of a task whose answers are places in a text: what stands around question and text.

    Returns:
        What was written, by split (train, validation, and test where some record is in it); and what was masked, by kind.
    """
    prompted = task_named(recipe.task).prompted
    encode = _encoding(recipe, tokenizer, masker, around)
    writers = {name: TextWriter(store, name, prompted=prompted) for name in _splits(survey)}
    with progress.stage("write shards", int(survey.bytes_R[survey.kept_R].sum()), "bytes") as stage:
        for (name, numbers), encoded in workers.map(encode, _batches(survey)):
            labels = survey.labels_R[numbers] if survey.labels else None
            writers[name].add(encoded, survey.owners_R[numbers], labels)
            stage.advance(int(survey.bytes_R[numbers].sum()))
    if recipe.audit.canaries:
        count, context = recipe.audit.canaries, recipe.model.context
        canaries = make_canaries(count, tokenizer.vocab_size, tokenizer.end_id, context)
        canaries.save(store)
        writers[SPLITS[TRAIN]].add_canaries(canaries, tokenizer)
    splits = {name: writer.finish() for name, writer in writers.items()}
    masked: Counter[str] = Counter()
    for writer in writers.values():
        masked.update(writer.masked)
        survey.skipped.update(writer.left_out)
    _say_shortened(sum(writer.shortened for writer in writers.values()), splits, encode, progress)
    return splits, dict(masked)


def _encoding(recipe: Recipe, tokenizer: Tokenizer, masker: Masker, around: Pair | None) -> TextEncoding:
    if around is not None:
        return PairEncoding(tokenizer, masker, around, recipe.model.context)
    if task_named(recipe.task).prompted:
        return PromptEncoding(tokenizer, masker, recipe.model.context)
    return TextEncoding(tokenizer, masker)


def _say_shortened(
    shortened: int, splits: dict[str, Split], encode: TextEncoding, progress: Progress
) -> None:
    if shortened and isinstance(encode, PromptEncoding):
        progress.say(
            "data.shortened",
            f"{shortened:,} of {sum(split.rows for split in splits.values()):,} prompts are longer than model.context = {encode.context:,} "
            "and are shortened; their answers are whole.",
        )
    if shortened and isinstance(encode, PairEncoding):
        progress.say(
            "data.cut-questions",
            f"{shortened:,} questions take more than half of model.context = {encode.context:,} and are cut.",
        )


def write_images(survey: Survey, store: Store, progress: Progress) -> dict[str, Split]:
    """Writes shards of the images of each split; returns them by name."""
    writers = {name: ImageWriter(store, name) for name in _splits(survey)}
    with progress.stage("write shards", int(survey.bytes_R[survey.kept_R].sum()), "bytes") as stage:
        for (name, numbers), images in _batches(survey):
            writers[name].add(images, survey.owners_R[numbers], survey.labels_R[numbers])
            stage.advance(int(survey.bytes_R[numbers].sum()))
    return {name: writer.finish() for name, writer in writers.items()}


def _splits(survey: Survey) -> list[str]:
    return [name for number, name in enumerate(SPLITS) if number < 2 or (survey.split_R == number).any()]


def _batches(survey: Survey) -> Iterator[tuple[tuple[str, list[int]], list[Any]]]:
    """((split, numbers), contents) of many kept records of one split at once."""
    waiting: dict[str, list[tuple[int, Any]]] = {name: [] for name in _splits(survey)}
    size = dict.fromkeys(waiting, 0)

    def batch(name: str) -> tuple[tuple[str, list[int]], list[Any]]:
        numbers, contents = zip(*waiting[name], strict=True)
        waiting[name], size[name] = [], 0
        return (name, list(numbers)), list(contents)

    for number, content in survey.contents(survey.kept_R):
        name = SPLITS[survey.split_R[number]]
        waiting[name].append((number, content))
        size[name] += len(content)
        if size[name] >= _BATCH_SIZE:
            yield batch(name)
    for name in waiting:
        if waiting[name]:
            yield batch(name)
