"""What a calibration looks at: training records; where these are private, texts that the released model writes itself; or records of
a file that is public."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data import FILL, Images, Manifest, PromptRows, Rows, SpanRows, Windows, load_tokenizer, open_split
from ..data.batches import at_step
from ..errors import PrivacyError, ShuyuanError
from ..inference import Engine
from ..models import AnyNetwork, NgramConfig, RnnConfig, TransformerConfig
from ..privacy.data_sets import files_named, note_free, same_records
from ..progress import Progress
from ..recipe import Recipe
from ..runs import variant_folder
from ..vault import Store
from .file import AT_ONCE, IMAGES, ROWS, records_of_file
from .variant import Variant

WRITTEN = 64  # texts of the model's own
UNSEEN = (RnnConfig, NgramConfig)  # models without matrices whose inputs can be looked at


class Looked(NamedTuple):
    """Inputs of the model, each row by itself and without filling, and what they are, in words; none where there can be none."""

    inputs: list[NDArray[np.integer[Any]]]
    what: str


NOTHING_SEEN = Looked([], "no records")


def calibration_records(
    recipe: Recipe,
    store: Store,
    manifest: Manifest,
    model: AnyNetwork,
    progress: Progress,
    file: str | Path | None = None,
) -> Looked:
    """What methods may look at.

    What follows from private records would be a release of its own; what follows from the released model, or from public
    records, costs nothing.

    Args:
        recipe: of the run, resolved.
        store: the run's files.
        manifest: of the prepared data.
        model: the trained network.
        progress: shows the texts that are written.
        file: of records to look at instead, as a recipe's `data.source`; of a private run, public ones.

    Raises:
        PrivacyError: the file is the private run's own source.
        DataError: the file cannot be read.
    """
    if isinstance(model.config, UNSEEN):
        return NOTHING_SEEN
    if file is not None:
        _check_public(recipe, file)
        return Looked(
            records_of_file(recipe, store, manifest, file), "records of a file that was given for it"
        )
    if recipe.privacy is None:
        return Looked(_of_training(recipe, store, manifest), "some training records")
    if model.config.output != "tokens":
        return NOTHING_SEEN
    return Looked(_written(recipe, store, model, progress), "texts that it wrote itself")


def _check_public(recipe: Recipe, file: str | Path) -> None:
    """Refuses what the private run learned from, and what it held out: be it named as a file, a folder, a pattern or a link."""
    if recipe.privacy is None:
        return
    of_file = recipe.replace(**{"data.source": str(Path(file).absolute()), "data.id": None})
    held_out = [place for place in (recipe.data.validation, recipe.data.test) if isinstance(place, str)]
    if same_records(recipe, of_file) or files_named([str(file)]) & files_named(held_out):
        raise PrivacyError(
            "compress.private-file",
            "The file holds the private run's own records, and what follows from them would be a release that the ledger does not know.",
            where=str(file),
            mend="Give a file of public records, or none: a private model that writes is calibrated on its own texts.",
        )


def _of_training(recipe: Recipe, store: Store, manifest: Manifest) -> list[NDArray[np.integer[Any]]]:
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

    Args:
        variant: what is asked for.
        recipe: of the run.
        model: to be changed.
        records: rows of tokens, or images, that may be looked at; none where nothing may be.

    Raises:
        ShuyuanError: the records are private, or the model does not run in PyTorch.
    """
    private = recipe.privacy is not None
    ours = type(model.config) is TransformerConfig
    if variant.structured and not ours:
        raise ShuyuanError(
            "compress.no-heads",
            f"The variant {variant.name} takes whole parts out of a transformer in the layout of Qwen3, and the model is none.",
            where="compress.shrink" if variant.shrunk else "compress.shorten",
            mend="Leave it out, and prune or quantize instead.",
        )
    if variant.needs_records() and not records:
        why = (
            "only matrices that multiply, in models of PyTorch, show it"
            if isinstance(model.config, UNSEEN)
            else "its records are private, and it writes none of its own"
        )
        raise ShuyuanError(
            "compress.no-records",
            f"The variant {variant.name} follows from what the model computes on records, and there are none to look at: {why}.",
            where="compress",
            mend='Leave rounding and pruning out, choose rounding = "nearest" and pruning = "magnitude", or name a file of public records '
            "with compress.calibrate.",
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


def note(variant: Variant, recipe: Recipe, store: Store, looked: Looked) -> None:
    """Notes in the ledgers of a private run what a variant is made from, before it is made.

    Args:
        variant: what will be made.
        recipe: of the run.
        store: the run's files.
        looked: what the method may look at.
    """
    seen = variant.with_records(bool(looked.inputs)).needs_records()
    meaning = f"Made from the released weights and {looked.what if seen else 'nothing else'}."
    note_free(recipe, store, "variant", variant_folder(variant.name), meaning)
