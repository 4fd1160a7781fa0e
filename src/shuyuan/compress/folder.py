"""Makes one variant of a run's model: `compressed/NAME/`, a model folder with its weights in fewer bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models import AnyNetwork, inner_matrices, pack, save_compressed
from ..models.packed import Arrays, Kind
from ..progress import Progress
from ..runs import variant_folder
from ..vault import Store
from .prune import largest
from .variant import Variant

SMALLEST = 1024  # weights that are worth rounding; a matrix of fewer stays as it is


def compress(
    store: Store,
    model: AnyNetwork,
    variant: Variant,
    tokenizer_json: str | None,
    card: str,
    records: Sequence[NDArray[np.integer[Any]]],
    progress: Progress,
) -> None:
    """Writes a variant of the trained model beside it; the folder appears whole or not at all.

    Vectors stay as they are: they are few. The embedding and the head, which errors pass unhindered, are never pruned, and
    have 8 bits at least.

    Args:
        store: the run's files.
        model: the trained model, which stays as it is.
        variant: what to do.
        tokenizer_json: the content of tokenizer.json; None for a model that reads images.
        card: the model card of the variant.
        records: inputs that methods may look at; without any, they look at weights alone.
        progress: shows how far they are.

    Raises:
        ShuyuanError: the model has weights that are not finite.
    """
    inner = inner_matrices(model)
    fitted = {}
    methods = variant.with_records(bool(records))
    if methods.needs_records():
        from .calibrated import fitted as settle

        fitted = settle(model, inner, methods, records, progress)

    def packed(name: str, weight: NDArray[np.float32]) -> tuple[Kind, Arrays]:
        bits = variant.bits if weight.ndim > 1 and weight.size >= SMALLEST else 32
        if name not in inner:
            return pack(weight, max(bits, 8))
        if name in fitted:
            settled = fitted[name]
            return pack(settled.weight, bits, settled.mask, settled.grid)
        return pack(weight, bits, largest(weight, variant.pruned) if variant.pruned else None)

    with store.folder(variant_folder(variant.name)) as folder:
        save_compressed(folder, model, tokenizer_json, card, packed)
