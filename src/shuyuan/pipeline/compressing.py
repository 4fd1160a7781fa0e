"""The smaller variants of a run's model: which are asked for, and making those that are missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import compress, report
from ..models import load_network
from ..privacy.data_sets import together
from ..recipe import Recipe
from ..runs import not_trained, variants_in
from ..train.memory import give_back
from ..train.tuning import tune as tune_model
from .job import Job, manifest_of, measured_peak


def variants(
    recipe: Recipe,
    quantize: Sequence[str],
    prune: Sequence[float],
    rounding: Sequence[str] = (),
    pruning: Sequence[str] = (),
    recover: str | None = None,
    shrink: Sequence[float] = (),
    shorten: Sequence[float] = (),
) -> list[compress.Variant]:
    """The variants that options ask for, by the rules of a recipe's [compress] table; int8 where neither they nor it ask for any.

    Args:
        recipe: of the run; where no option is given, its own table is what is asked for, and nothing is returned.
        quantize: kinds of whole numbers, "int8" or "int4".
        prune: shares of the weights to leave out.
        rounding: how int4 rounds.
        pruning: which weights are left out.
        recover: how long a pruned model is trained again; None: not at all.
        shrink: shares of the heads and channels to take out.
        shorten: shares of the blocks to take out.

    Raises:
        RecipeError: a share is not between 0 and 1, or a method has nothing to do.
    """
    asked = {
        "quantize": quantize,
        "prune": prune,
        "shrink": shrink,
        "shorten": shorten,
        "rounding": rounding,
        "pruning": pruning,
    }
    if not any(asked.values()):
        if recipe.compress:
            return []
        asked["quantize"] = ["int8"]
    given: dict[str, Any] = {key: list(value) for key, value in asked.items() if value}
    checked = recipe.replace(compress=given | ({"recover": recover} if recover else {}))
    return compress.wanted(checked.compress)


def compress_model(
    job: Job, more: Sequence[compress.Variant] = (), calibrate: str | Path | None = None
) -> list[str]:
    """Makes the smaller variants that the recipe asks for, and others; those that are there already cost nothing.

    Args:
        job: a trained run, opened.
        more: variants beside the recipe's.
        calibrate: a file of records that methods look at, instead of the recipe's `compress.calibrate`.

    Returns:
        The names of all that the run has now, the original first.

    Raises:
        RunError: the run is not trained.
        ShuyuanError: a variant does not fit the model, or the file of records cannot be used.
    """
    asked = [*compress.wanted(job.recipe.compress), *more]
    there = variants_in(job.store.names())
    if not there:
        raise not_trained(job.run.path)
    missing = [variant for variant in dict.fromkeys(asked) if variant.name not in there]
    if not missing:
        return there
    give_back()
    manifest = manifest_of(job)
    tokenizer_json = None if manifest.image else job.store.read("data/tokenizer.json").decode()
    sums = together(job.recipe, job.store)
    model = load_network(job.store)
    looked = compress.NOTHING_SEEN
    if any(variant.gains_by_records() for variant in missing):
        file = calibrate or (job.recipe.compress.calibrate if job.recipe.compress else None)
        looked = compress.calibration_records(job.recipe, job.store, manifest, model, job.progress, file)
    for variant in missing:
        compress.check(variant, job.recipe, model, looked.inputs)
        if job.recipe.privacy is not None:
            compress.note(variant, job.recipe, job.store, looked)

    def card(variant: compress.Variant) -> str:
        return report.model_card(job.recipe, manifest, sums, variant, looked.what if looked.inputs else None)

    def tune(network: Any, budget: str, between: Callable[[int, int], None], smaller: bool) -> None:
        tune_model(job.recipe, job.store, manifest, network, budget, between, smaller, job.progress)

    compress.compress(job.store, model, missing, tokenizer_json, card, looked.inputs, tune, job.progress)
    measured_peak(job)
    return variants_in(job.store.names())
