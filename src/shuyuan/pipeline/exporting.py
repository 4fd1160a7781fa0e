"""A run's model in the formats of others; that a copy leaves a sealed or private run is noted in it first."""

from __future__ import annotations

from pathlib import Path

from .. import export as exports
from ..errors import RunError
from ..privacy.data_sets import note_free
from ..privacy.ledger import LEDGER_FILE
from ..runs import ORIGINAL, Run, no_variant, not_trained, variants_in
from .job import Job, log


def format_of(job: Job) -> str:
    """What the run's model is written as: "keras" or "huggingface".

    Args:
        job: a run, opened.
    """
    return "keras" if job.recipe.model.family == "rnn" else "huggingface"


def export(
    job: Job,
    to: Path,
    kind: str | None = None,
    *,
    variant: str = ORIGINAL,
    weights: str = "f16",
    in_the_clear: bool = False,
) -> Path:
    """Writes the model, in the clear, as a folder; the folder appears whole or not at all.

    Args:
        job: a run, opened; to write, where it is sealed or private, since its log and ledger then say what left it.
        to: the folder to make.
        kind: "huggingface", "keras", "gguf" or "onnx"; None: whichever of the first two the model is.
        variant: of the model.
        weights: how GGUF stores matrices: "f32", "f16", "bf16" or "q8_0".
        in_the_clear: of a sealed run: that it shall leave its seal.

    Raises:
        RunError: there is no model or variant yet, it is of another kind, the folder is in use, or the run is sealed.
        ShuyuanError: the format cannot hold the model.
    """
    there = variants_in(job.store.names())
    if not there:
        raise not_trained(job.run.path)
    if variant not in there:
        raise no_variant(variant, there, job.run.path)
    own = format_of(job)
    kind = kind or own
    if kind != own and "keras" in (kind, own):
        raise RunError(
            "run.other-format",
            f"A model of the family {job.recipe.model.family} cannot be written as {kind}.",
            where=str(job.run.path),
            mend=f"Write --as {own}.",
        )
    exports.check_target(to)
    if job.store.sealed and not in_the_clear:
        raise RunError(
            "run.sealed-export",
            "The run is sealed, and an export lies in the clear: whoever has it can use it and probe what it memorised.",
            where=str(job.run.path),
            mend="Say --open if that is meant; the run's log and ledger then say so.",
        )
    if job.store.sealed or job.recipe.privacy is not None:
        _note_export(job, f"{kind} of {variant}")
    exports.write(job.recipe, job.store, to, kind, variant, weights)
    return to


def leaves_a_trace(target: str | Path) -> bool:
    """Whether an export of a run is noted in it, so that it has to be opened for work: where it is sealed or private.

    Args:
        target: the run folder.
    """
    recipe = Run(target).recipe()
    return recipe.vault is not None or recipe.privacy is not None


def _note_export(job: Job, what: str) -> None:
    """Has the run's log and its ledgers say that a copy leaves it, before it does."""
    log(job, {"event": "export", "what": what})
    if job.store.exists(LEDGER_FILE):
        note_free(job.recipe, job.store, "export", what, "A copy of what was released, in the clear.")
