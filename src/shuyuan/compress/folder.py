"""Makes variants of a run's model: `compressed/NAME/`, model folders with their weights in fewer bytes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models import AnyNetwork, inner_matrices, pack, save_variant
from ..models.packed import Arrays, Grid, Kind
from ..progress import Progress
from ..runs import variant_folder
from ..vault import Store
from .prune import largest
from .variant import Variant

SMALLEST = 1024  # weights that are worth rounding; a matrix of fewer stays as it is
Records = Sequence[NDArray[np.integer[Any]]]
# Trains a network a little further: its budget, what is done before the first step and after each, and whether it is made smaller before.
Tune = Callable[[AnyNetwork, str, Callable[[int, int], None], bool], None]


@dataclass
class _Pruned:
    """A network after pruning, and where weights of each matrix are left; matrices without a mask are as they were."""

    model: AnyNetwork
    masks: dict[str, NDArray[np.bool_]] = field(default_factory=dict)


def compress(
    store: Store,
    model: AnyNetwork,
    variants: Sequence[Variant],
    tokenizer_json: str | None,
    card: Callable[[Variant], str],
    records: Records,
    tune: Tune,
    progress: Progress,
) -> None:
    """Writes variants of the trained model beside it; each folder appears whole or not at all.

    Vectors stay as they are: they are few. The embedding and the head, which errors pass unhindered, are never pruned, and
    have 8 bits at least.

    Args:
        store: the run's files.
        model: the trained model, which stays as it is.
        variants: what to make.
        tokenizer_json: the content of tokenizer.json; None for a model that reads images.
        card: writes the model card of a variant.
        records: inputs that methods may look at; without any, they look at weights alone.
        tune: trains a network further.
        progress: shows the variants done.

    Raises:
        ShuyuanError: the model has weights that are not finite.
    """
    inner = inner_matrices(model)
    methods = [variant.with_records(bool(records)) for variant in variants]
    pairs = zip(variants, methods, strict=True)
    with progress.stage("compress", len(variants), "variants") as stage:
        for _, alike in groupby(pairs, key=lambda pair: replace(pair[1], bits=32, rounding="auto")):
            group = list(alike)
            pruned = _pruned(model, inner, group[0][1], records, tune, progress)
            for variant, chosen in group:
                _write(
                    store, variant, chosen, pruned, inner, tokenizer_json, card(variant), records, progress
                )
                stage.advance()


def _pruned(
    model: AnyNetwork,
    inner: frozenset[str],
    methods: Variant,
    records: Records,
    tune: Tune,
    progress: Progress,
) -> _Pruned:
    """The network with a share of its weights, or of its heads and channels, taken out, and trained again where that is asked for. What looks at weights alone is
    left to `_write`, which knows them for every family."""
    small = replace(methods, bits=32)
    if not (small.recover or small.needs_records()):
        return _Pruned(model)
    from . import calibrated, recovery

    found = _Pruned(_copy(model))
    if methods.structured:
        from .shorten import shorten
        from .shrink import shrink

        if methods.shrunk:
            shrink(found.model, methods.shrunk, records, progress)
        else:
            shorten(found.model, methods.shortened, records)
        if methods.recover:
            tune(found.model, methods.recover, lambda step, steps: None, True)
        return found
    if methods.pruning == "gradual":
        falling = recovery.falling(found.model, inner, methods.pruned, found.masks)
        tune(found.model, methods.recover, falling, False)
        return found
    if methods.pruning in ("sparsegpt", "wanda"):
        found.masks = calibrated.prune(found.model, inner, methods.pruned, methods.pruning, records, progress)
    recovery.prune_rest(found.model, inner, methods.pruned, found.masks)
    if methods.recover:
        tune(found.model, methods.recover, recovery.holding(found.model, found.masks), True)
    return found


def _write(
    store: Store,
    variant: Variant,
    methods: Variant,
    pruned: _Pruned,
    inner: frozenset[str],
    tokenizer_json: str | None,
    card: str,
    records: Records,
    progress: Progress,
) -> None:
    model, grids = pruned.model, dict[str, Grid]()
    if methods.bits == 4 and methods.rounding == "gptq":
        from .calibrated import round_to_grids

        model = _copy(model)
        grids = round_to_grids(model, inner, pruned.masks, records, progress)

    def packed(name: str, weight: NDArray[np.float32]) -> tuple[Kind, Arrays]:
        bits = variant.bits if weight.ndim > 1 and weight.size >= SMALLEST else 32
        if name not in inner:
            return pack(weight, max(bits, 8))
        mask = pruned.masks.get(name)
        if mask is None and methods.pruned:
            mask = largest(weight, methods.pruned)
        return pack(weight, bits, mask, grids.get(name))

    with store.folder(variant_folder(variant.name)) as folder:
        ordinary = variant.bits == 32 and not variant.pruned
        save_variant(folder, model, tokenizer_json, card, None if ordinary else packed)


def _copy(model: Any) -> Any:
    from ..models.room import device_for

    return copy.deepcopy(model).to(device_for(model)).eval()
