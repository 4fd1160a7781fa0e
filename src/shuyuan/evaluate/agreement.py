"""How often a variant says what the original says, right or wrong: the likeliest token at each place, or the likeliest label; of any number of labels,
each decision about one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Images, Manifest, PromptRows, Rows, Windows, open_split
from ..hardware import choose_precision, detect
from ..inference import computed
from ..models import AnyNetwork
from ..recipe import Recipe
from ..tasks.multi_label import THRESHOLD
from ..vault import Store

TARGETS = 16_384  # places or records that are looked at


def guesses(
    recipe: Recipe, store: Store, manifest: Manifest, model: AnyNetwork
) -> NDArray[np.integer[Any]] | None:
    """What a model thinks likeliest on validation.

    Args:
        recipe: resolved.
        store: the run's files.
        manifest: what was prepared.
        model: the run's, or a variant of it.

    Returns:
        (N,) ids of tokens, or numbers of classes, N at most `TARGETS`; (N, K) ones and zeros where a record may have any number of labels.
        None of a model that tells neither tokens at every place nor labels, or where nothing is held out.
    """
    if "validation" not in manifest.splits or not manifest.splits["validation"].tokens:
        return None
    records = open_split(store, manifest, "validation", recipe.model.context)
    network = computed(model, choose_precision(recipe.train.precision, detect()))
    at_once = recipe.train.micro_batch
    assert isinstance(at_once, int)  # resolved
    labelled = isinstance(records, Rows | Images)
    if not labelled and (not isinstance(records, Windows | PromptRows) or model.config.head[0] == 1):
        return None
    found: list[NDArray[np.integer[Any]]] = []
    for inputs, targets in records.in_order(at_once):
        if model.config.multi_label:
            found.append((network.probabilities(inputs) >= THRESHOLD).astype(np.int64))
        elif labelled:
            found.append(network.probabilities(inputs).argmax(1))
        else:
            found.append(network.likeliest(inputs)[targets >= 0])
        if sum(map(len, found)) >= TARGETS:
            break
    return np.concatenate(found)[:TARGETS]
