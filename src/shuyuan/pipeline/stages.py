"""The stages of a run from recipe to report, in the order in which it meets them; each does what is missing."""

from __future__ import annotations

import importlib.metadata
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__, data, evaluate, hardware, report, train
from ..models import rnn_folder
from ..privacy.data_sets import together
from ..privacy.mechanism import mechanism_in
from ..progress import Progress
from ..recipe import Recipe
from ..runs import RECIPE_FILE, variants_in
from ..train.memory import give_back, peak_memory
from .compressing import compress_model
from .job import PLAN_FILE, Job, log, manifest_of, measured_peak
from .opening import Target, begin, locate, look, say_doubts
from .plans import make_plan

VERSIONED = ("torch", "tokenizers", "numpy", "cryptography", "safetensors")


def run(target: Target, *, model: Any = None, **options: Any) -> dict[str, Any]:
    """Everything the recipe asks for: plan, prepare, train, compress, evaluate, report.

    Args:
        target: as in `begin`.
        model: a model of Keras to start from, or a function that makes one; it is kept beside the run's folder, in the clear.
        options: as in `begin`.

    Returns:
        The run's summary, as `shuyuan run --json` prints it.
    """
    if model is not None:
        folder, recipe = locate(target, options.pop("out", None), options.pop("changes", ()))
        file = folder.path.with_name(folder.path.name + rnn_folder.SUFFIX).absolute()
        rnn_folder.hand_in(model, file)
        target = recipe.replace(**{"model.family": "rnn", "model.from": str(file)})
        options["out"] = folder.path
    with begin(target, "run", **options) as job:
        everything(job)
        return report.summary(job.run, job.store)


def everything(job: Job) -> None:
    """All stages in order; those that are done already cost nothing.

    Args:
        job: a run, opened for work.
    """
    make_plan(job)
    prepare(job)
    train_model(job)
    compress_model(job)
    evaluate_model(job)
    if job.recipe.audit.canaries and not job.store.exists(evaluate.AUDIT_FILE):
        audit_model(job)
    write_report(job)


def prepare(job: Job) -> data.Manifest:
    """Cleans, masks, splits and tokenizes the source into shards; once.

    Args:
        job: a run, opened for work.
    """
    prepared_before = data.load_manifest(job.store) is not None
    manifest = data.prepare(job.recipe, job.store, job.progress)
    if not prepared_before:
        facts = {"seconds": manifest.seconds, "records": manifest.records, "tokens": manifest.tokens}
        log(job, {"event": "prepare", **facts, "peak_bytes": peak_memory()})
    give_back()
    return manifest


def train_model(job: Job) -> None:
    """Resolves what the recipe left open, once, and trains to the last step; goes on from the newest checkpoint.

    Args:
        job: a run, opened for work and prepared.
    """
    manifest = manifest_of(job)
    if job.recipe.train.steps is None or not job.recipe.resolved:
        resolved = train.resolve(job.recipe, manifest, hardware.detect(), job.progress)
        job.recipe = resolved.replace(resolved=_circumstances(manifest) | _mechanism(resolved, manifest))
        job.store.write_open(RECIPE_FILE, job.recipe.as_toml().encode())
        if (done := mechanism_in(job.recipe)) is not None:
            say_doubts(job.recipe, asdict(done), job.store.read_json(PLAN_FILE), job.progress)

    def card() -> str:
        return report.model_card(job.recipe, manifest, together(job.recipe, job.store))

    with job.stop.gently():
        result = train.train(job.recipe, job.store, job.progress, job.stop, card=card)
    plan = job.store.read_json(PLAN_FILE)
    if "measured" not in plan:
        storage = sum(file.stat().st_size for file in job.run.path.rglob("*") if file.is_file())
        plan["measured"] = {
            "seconds": result.seconds,
            "peak_bytes": result.peak_bytes,
            "storage_bytes": storage,
        }
        job.store.write_json(PLAN_FILE, plan)


def _mechanism(recipe: Recipe, manifest: data.Manifest) -> dict[str, Any]:
    """What each step of a private run will do: computed once, after the steps are known and before the first."""
    return {"privacy": asdict(train.mechanism_of(recipe, manifest))} if recipe.privacy else {}


def _circumstances(manifest: data.Manifest) -> dict[str, Any]:
    """What a repeat of the run would need to know: versions, data and machine."""
    machine = hardware.detect()
    return {
        "versions": {"shuyuan": __version__} | {name: importlib.metadata.version(name) for name in VERSIONED},
        "data_fingerprint": manifest.fingerprint,
        "machine": f"{machine.name}, {machine.cores} cores",
        "date": time.strftime("%Y-%m-%d"),
    }


def evaluate_model(job: Job, *, again: bool = False) -> dict[str, Any]:
    """Scores the model and its variants on the held-out splits and writes samples; each once, unless `again`.

    Args:
        job: a trained run, opened for work.
        again: also where they were scored before.
    """
    names = job.store.names()
    if all(file in names for file in (evaluate.SCORES_FILE, evaluate.SAMPLES_FILE)) and not again:
        scores: dict[str, Any] = job.store.read_json(evaluate.SCORES_FILE)
        if set(variants_in(names)) <= scores.get(job.recipe.task, {}).keys():
            return scores
    give_back()
    scores = evaluate.evaluate(job.recipe, job.store, manifest_of(job), job.progress, again=again)
    measured_peak(job)
    return scores


def evaluate_file(
    target: str | Path,
    file: str | Path,
    *,
    key: str | None = None,
    against: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Scores a run's model on a file of one's own, as `shuyuan evaluate RUN --data FILE --json` prints it.

    Args:
        target: the run folder.
        file: as a recipe's `data.source`.
        key: where the vault's key is, instead of where the recipe says.
        against: another run folder, whose model is compared on the same records; opened with the same key.
        progress: shows the records done.
        options: task, columns and limit, as of `evaluate.evaluate_file`.
    """
    with ExitStack() as stack:
        job = stack.enter_context(look(target, key))
        other = None if against is None else stack.enter_context(look(against, key))
        return evaluate.evaluate_file(
            job.recipe,
            job.store,
            file,
            progress or Progress(),
            against=None if other is None else (other.recipe, other.store),
            **options,
        )


def audit_model(job: Job, *, white_box: bool = False) -> dict[str, Any]:
    """What planted canaries prove about ε, as `shuyuan audit --json` prints it.

    Args:
        job: a trained run, opened for work.
        white_box: score by the weights, as someone who has the model before and after can.
    """
    give_back()
    found = evaluate.audit(job.recipe, job.store, manifest_of(job), job.progress, white_box=white_box)
    measured_peak(job)
    return found


def write_report(job: Job) -> Path:
    """Writes report.html: whole in an open run, only what says nothing about records in a sealed or private one.

    Args:
        job: a run, opened for work.
    """
    give_back()
    return report.write_report(job.run, job.store, job.recipe)
