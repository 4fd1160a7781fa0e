"""What a step computes: a model of which shape, and its rows in parts of about one width."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..data import Manifest
from ..data.widths import WIDTHS, cut, height
from ..errors import TrainError
from ..models import ImageConfig, RnnConfig, TransformerConfig, check_base, config_for, image_config_for
from ..recipe import Recipe

# Lengths of texts with labels: the longest of 64 is 3.2 times the mean (3.0 to 3.7 of four sets, docs/lab-notes.md).
SPREAD_LENGTH = 2 / 3
MEAN_LENGTH = 1 / math.gamma(1 + SPREAD_LENGTH)
DRAWN = 50  # steps that are drawn, to see how wide a part may be


def config_of(recipe: Recipe, manifest: Manifest) -> TransformerConfig | ImageConfig | RnnConfig:
    """The shape of the model that the run trains, with the head that its task needs.

    Args:
        recipe: says the model.
        manifest: says vocabulary, labels and shape of images.

    Raises:
        ShuyuanError: the model to start from cannot be opened, does not fit the task, or cannot be kept as codes.
    """
    if manifest.image is not None:
        return image_config_for(recipe.model, manifest.image, manifest.labels)
    spans = manifest.output == "spans"
    config = config_for(recipe.model, manifest.vocab_size, manifest.marks.end_id, manifest.labels, spans)
    if recipe.train.lora is not None and recipe.train.lora.bits is not None:
        check_base(config)
    return config if isinstance(config, RnnConfig) else replace(config, multi_label=manifest.multi_label)


def predicts_last(recipe: Recipe, manifest: Manifest) -> bool:
    """Whether the model predicts one token of a window, the one after it.

    Args:
        recipe: says the model.
        manifest: of the prepared data.

    Raises:
        TrainError: it does, and the task learns whole answers.
    """
    if recipe.model.family != "rnn" or manifest.labels:
        return False
    last = config_of(recipe, manifest).head[0] == 1
    if last and manifest.prompted:
        raise TrainError(
            "train.predicts-last",
            f"The model to start from predicts one token of a window, and the task {recipe.task} learns whole answers.",
            where="model.from",
            mend="Start from a model that predicts the token after every token.",
        )
    return last


def row_width(recipe: Recipe, manifest: Manifest) -> int:
    """Tokens of the widest rows that training computes.

    Args:
        recipe: says the context, which every row is as wide as where widths are unknown or private.
        manifest: of the prepared data.
    """
    widths = manifest.splits["train"].widths
    if not widths or recipe.privacy is not None:
        return recipe.model.context
    return min(recipe.model.context, len(widths) * WIDTHS)


@dataclass(frozen=True)
class Part:
    """Rows that are computed at once, as `micro_batches` makes them of a batch: how many, how wide, and what they learn.

    Attributes:
        rows: of the part.
        width: tokens of each.
        targets: that each has on average.
    """

    rows: int
    width: int
    targets: float


def typical_parts(recipe: Recipe, manifest: Manifest) -> list[Part]:
    """The parts of a step whose rows are as wide as those of the training split; of text.

    Args:
        recipe: with batch and micro batch filled in.
        manifest: of the prepared data.
    """
    batch_size = recipe.train.batch_size
    assert batch_size != "auto"  # filled in
    return _parts(recipe, manifest, evenly(batch_size))


def drawn_parts(recipe: Recipe, manifest: Manifest) -> set[Part]:
    """The parts of many steps whose rows are drawn from those of the training split: some have more wide rows than a typical step.

    Args:
        recipe: with batch and micro batch filled in; as many steps are drawn as it has, at most `DRAWN`.
        manifest: of the prepared data; where widths are private, or all the same, nothing is drawn.

    Returns:
        Each part once; the same ones each time.
    """
    batch_size, steps = recipe.train.batch_size, recipe.train.steps
    assert batch_size != "auto"  # filled in
    typical = set(typical_parts(recipe, manifest))
    if {part.width for part in typical} == {row_width(recipe, manifest)}:
        return typical  # rows that are all as wide as can be are the same each time
    draws = np.random.default_rng(0).random((min(steps or DRAWN, DRAWN), batch_size))
    return {part for place_B in np.sort(draws) for part in _parts(recipe, manifest, place_B)}


def evenly(count: int) -> NDArray[np.float64]:
    """Places of so many rows, evenly spread between 0 and 1.

    Args:
        count: of them.
    """
    places: NDArray[np.float64] = (np.arange(count) + 0.5) / count
    return places


def _parts(recipe: Recipe, manifest: Manifest, place_B: NDArray[np.float64]) -> list[Part]:
    """The parts of a batch of rows that stand at these places between the widest, at 0, and the narrowest, at 1."""
    micro_batch = recipe.train.micro_batch
    assert micro_batch != "auto"  # filled in
    width_B, targets_B = rows_at(recipe, manifest, place_B)
    parts = []
    for part, width in cut(width_B, micro_batch):
        rows = height(part.stop - part.start, len(place_B), micro_batch)
        parts.append(Part(rows, width, float(targets_B[part].sum()) / rows))
    return parts


def rows_at(
    recipe: Recipe, manifest: Manifest, place_B: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(width, targets) of rows, the widest first. Where it is unknown or private how wide they are, all are as wide as can be;
    of records with labels the mean is known, and lengths are spread about it as those of texts often are.

    Args:
        recipe: says the context, and whether widths are private.
        manifest: of the prepared data.
        place_B: between 0, the widest row, and 1, the narrowest.
    """
    train, widest = manifest.splits["train"], row_width(recipe, manifest)
    count = len(place_B)
    if manifest.labels and train.tokens and recipe.privacy is None:
        length_B = train.tokens / train.records * MEAN_LENGTH * (-np.log(place_B)) ** SPREAD_LENGTH
        width_B = np.minimum(np.ceil(length_B / WIDTHS).astype(np.int64) * WIDTHS, widest)
        return width_B, np.ones(count)
    if not train.widths or recipe.privacy is not None:
        targets = 1 if manifest.labels or predicts_last(recipe, manifest) else widest
        return np.full(count, widest), np.full(count, float(targets))
    number_K = np.cumsum(train.widths)
    from_narrow_B = (1 - place_B) * number_K[-1]
    width_B = np.minimum((np.searchsorted(number_K, from_narrow_B, side="right") + 1) * WIDTHS, widest)
    mean = np.average(np.arange(1, len(number_K) + 1) * WIDTHS, weights=train.widths)
    return width_B, np.minimum(width_B * (train.learned / train.rows / mean), width_B)
