"""Records of a file as inputs of a run's model, each row by itself, laid out as in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import (
    Asked,
    ImageFacts,
    Manifest,
    Tokenizer,
    filled_windows,
    laid_out,
    load_tokenizer,
    question_and_text,
    read_image,
    row_of,
    windows,
)
from ..errors import DataError
from ..evaluate import read_examples
from ..recipe import Recipe
from ..tasks import Example
from ..vault import Store

ROWS, IMAGES = 128, 512  # that are looked at
AT_ONCE = 64  # images
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
Inputs = NDArray[np.integer[Any]]


def records_of_file(recipe: Recipe, store: Store, manifest: Manifest, file: str | Path) -> list[Inputs]:
    """The first records of a file: (1, T) tokens each, (1, 2, T) of questions and texts, or (B, C, H, W) images.

    Args:
        recipe: of the run, whose columns, cleaning and masking are used.
        store: the run's files, with its tokenizer.
        manifest: of the run's prepared data.
        file: of records; for images one of them, or a folder.

    Raises:
        DataError: it cannot be read, or holds no record.
    """
    if manifest.image is not None:
        return _images(Path(file), manifest.image)
    examples = [each for each in read_examples(recipe, store, file, ROWS) if each.text.strip()]
    tokenizer, context = load_tokenizer(store), recipe.model.context
    if manifest.output == "spans":
        return list(_pairs(examples, tokenizer, manifest, context))[:ROWS]
    if manifest.labels:
        rows = [row_of(tokenizer.encode(each.text), tokenizer, context) for each in examples]
    elif manifest.prompted:
        laid = laid_out(examples, tokenizer, context + 1)
        rows = [each.ids[:-1] for each in laid if each is not None and len(each.ids) > 1]
    else:
        ids = list(chain.from_iterable([tokenizer.end_id, *tokenizer.encode(each.text)] for each in examples))
        rows = [ids[start : start + context] for start in range(0, len(ids), context)]
    if not rows:
        raise _no_record(file)
    return [np.array([row], np.int64) for row in rows[:ROWS]]


def _pairs(
    examples: Sequence[Example], tokenizer: Tokenizer, manifest: Manifest, context: int
) -> Iterator[Inputs]:
    around = manifest.pair
    assert around is not None  # of a run whose answers are places
    for example in examples:
        question, text = question_and_text(example)
        asked = Asked(tokenizer.encode(question), tokenizer.encode(text))
        for window in windows(asked, around, context):
            yield filled_windows([window], context, len(window.ids))


def _images(file: Path, image: ImageFacts) -> list[Inputs]:
    found = sorted(file.rglob("*")) if file.is_dir() else [file]
    pictures = [read_image(each, image) for each in found if each.suffix.lower() in PICTURES][:IMAGES]
    if not pictures:
        raise _no_record(file)
    return [np.stack(pictures[start : start + AT_ONCE]) for start in range(0, len(pictures), AT_ONCE)]


def _no_record(file: str | Path) -> DataError:
    return DataError(
        "compress.empty-file",
        "There is no record in it to calibrate on.",
        where=str(file),
        mend="Give a file like the recipe's data.source; for images, a folder of pictures.",
    )
