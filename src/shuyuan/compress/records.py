"""What a calibration looks at: training records, or, where these are private, texts that the released model writes itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Images, Manifest, PromptRows, Rows, SpanRows, Windows, load_tokenizer, open_split
from ..data.batches import at_step
from ..data.rows import FILL
from ..errors import ShuyuanError
from ..inference import Engine
from ..models import AnyNetwork, RnnConfig, TransformerConfig
from ..progress import Progress
from ..recipe import Recipe
from ..vault import Store
from .variant import Variant

ROWS, WRITTEN, IMAGES = 128, 64, 512  # that are looked at: of text, of the model's own, and images
AT_ONCE = 64  # images


def calibration_records(
    recipe: Recipe, store: Store, manifest: Manifest, model: AnyNetwork, progress: Progress
) -> list[NDArray[np.integer[Any]]]:
    """Inputs of the model, each row by itself and without filling; none where there can be none.

    What follows from private records would be a release of its own; what follows from the released model costs nothing.
    """
    if isinstance(model.config, RnnConfig):
        return []
    if recipe.privacy is not None:
        return _written(recipe, store, model, progress) if model.config.output == "tokens" else []
    records = open_split(store, manifest, "train", recipe.model.context)
    if isinstance(records, Images):
        count = min(IMAGES, records.count)
        whole, _ = records.batch(0, count, recipe.seed)
        return [whole[start : start + AT_ONCE] for start in range(0, count, AT_ONCE)]
    count = min(ROWS, records.count)
    if isinstance(records, PromptRows):
        chosen = at_step(0, count, records.count, recipe.seed).tolist()
        return [records.row(number)[0][None, :-1].astype(np.int64) for number in chosen]
    if isinstance(records, SpanRows):
        inputs_N2T, _ = records.batch(0, count, recipe.seed)
        return [row_2T[None, :, row_2T[0] != FILL] for row_2T in inputs_N2T]
    assert isinstance(records, Windows | Rows)
    inputs_BT, _ = records.batch(0, count, recipe.seed)
    return [row_T[row_T != FILL][None] for row_T in inputs_BT]


def _written(
    recipe: Recipe, store: Store, model: AnyNetwork, progress: Progress
) -> list[NDArray[np.integer[Any]]]:
    """Texts that the model writes from nothing, as rows."""
    tokenizer, context = load_tokenizer(store), recipe.model.context
    engine = Engine(model, tokenizer)
    with progress.stage("write texts to calibrate on", WRITTEN, "texts") as stage:
        texts = engine.generate_all(
            [""] * WRITTEN,
            max_tokens=context,
            temperature=1.0,
            seed=recipe.seed,
            done=lambda _: stage.advance(),
        )
    rows = [[tokenizer.end_id, *tokenizer.encode(text)][:context] for text in texts]
    return [np.array([row], np.int64) for row in rows if len(row) > 1]


def check(
    variant: Variant, recipe: Recipe, model: AnyNetwork, records: Sequence[NDArray[np.integer[Any]]]
) -> None:
    """Refuses a method that looks at records, or trains, where it may or can not.

    Raises:
        ShuyuanError: the records are private, or the model does not run in PyTorch.
    """
    private = recipe.privacy is not None
    if variant.needs_records() and not records:
        why = (
            "its records are private, and it writes none of its own"
            if private
            else "only models that run in PyTorch show it"
        )
        raise ShuyuanError(
            "compress.no-records",
            f"The variant {variant.name} follows from what the model computes on records, and there are none to look at: {why}.",
            where="compress",
            mend='Leave rounding and pruning out, or choose rounding = "nearest" and pruning = "magnitude".',
        )
    ours = type(model.config) is TransformerConfig
    if variant.shrunk and not ours:
        raise ShuyuanError(
            "compress.no-heads",
            f"The variant {variant.name} takes heads and channels out of a transformer in the layout of Qwen3, and the model is none.",
            where="compress.shrink",
            mend="Leave shrink out, and prune or quantize instead.",
        )
    if variant.recover and (private or isinstance(model.config, RnnConfig) or recipe.train.lora):
        why = (
            "the records are private, and what is learned from them again would be a release that the ledger does not know"
            if private
            else "only some matrices beside the model's were trained"
            if recipe.train.lora
            else "only models that run in PyTorch are trained after pruning"
        )
        raise ShuyuanError(
            "compress.no-recovery",
            f"The variant {variant.name} would be trained again, and may not: {why}.",
            where="compress.recover",
            mend="Leave recover out.",
        )
