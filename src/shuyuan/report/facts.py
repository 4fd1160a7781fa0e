"""What is known of a run, gathered from its files into one plain structure; nothing is guessed, unknown stays unknown.

The public page of a sealed run is made of recipe.toml, of some figures of plan.json and of the sum of the ledgers, and of
nothing else but scores that the recipe gives away by name: what was never gathered cannot be shown by mistake.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import RunError
from ..privacy import mechanism_in
from ..privacy.data_sets import Together, together
from ..privacy.ledger import stated
from ..recipe import Recipe
from ..runs import LOCK_FILE, ORIGINAL, Run, variant_folder, variants_in
from ..train.metrics import METRICS_FILE, Line, valid_lines
from ..vault import Store

REPORT_FILE = "report.html"
Status = Literal["new", "prepared", "training", "interrupted", "trained", "evaluated", "complete"]


@dataclass(frozen=True)
class Facts:
    """A run as its files tell it.

    Attributes:
        folder: the run folder.
        recipe: as resolved so far.
        sealed: whether the run is sealed.
        whole: whether losses, counts and samples were gathered; if not, everything below `data_set` is empty, but for
            the model's scores where the recipe allows them.
        trained: whether the model is there.
        plan: plan.json, with "measured" once training is done; only its public part if not `whole`.
        data_set: what all runs on the same data set have spent; None where its ledger cannot be read.
        metrics: lines of metrics.jsonl, without those that a resume made void.
        manifest: data/manifest.json.
        scores: metrics of the task by variant, {"original": {"validation.loss": 3.1}}.
        labels: of a task with labels, what stands behind its scores, by split.
        answers: the same of a task with prompts.
        samples: what the model wrote.
        variant_bytes: size of the folder of each variant of the model, the original's first.
        speeds: how fast each writes, and what memory it takes, where that was measured.
    """

    folder: Path
    recipe: Recipe
    sealed: bool
    whole: bool
    trained: bool
    plan: dict[str, Any]
    data_set: Together | None
    metrics: list[Line] = field(default_factory=list)
    manifest: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    variant_bytes: dict[str, int] = field(default_factory=dict)
    speeds: dict[str, dict[str, Any]] = field(default_factory=dict)

    def events(self, name: str) -> list[Line]:
        """The metrics lines of one event, oldest first."""
        return [line for line in self.metrics if line.get("event") == name]

    def last(self, name: str) -> Line:
        """The newest line of one event; empty if there is none."""
        lines = self.events(name)
        return lines[-1] if lines else {}

    @property
    def measured(self) -> dict[str, Any]:
        """What training took: {seconds, peak_bytes, storage_bytes}; empty until it is done."""
        return _table(self.plan.get("measured"))

    @property
    def score(self) -> dict[str, Any]:
        """The scores of the unmodified model."""
        return _table(self.scores.get(ORIGINAL))


def gather(run: Run, store: Store, *, whole: bool) -> Facts:
    """Reads what there is of a run.

    Args:
        run: the run.
        store: its files; opened for reading is enough.
        whole: also what derives from records: metrics, manifest, scores, samples.

    Raises:
        RunError, VaultError: a file is there and cannot be read; names it.
    """
    recipe = run.recipe()
    names = set(store.names())
    trained = any(name.startswith("model/") for name in names)
    plan = _table(_json(store, "plan.json", "plan.json" in names))
    sums = together(recipe, store)
    if not whole:
        scores = public_scores(store, recipe, "scores.json" in names)
        plan = public_plan(plan, recipe)
        return Facts(run.path, recipe, store.sealed, whole, trained, plan, sums, scores=scores)
    scores = _table(_json(store, "scores.json", "scores.json" in names))
    labels = _table(_json(store, "labels.json", "labels.json" in names))
    answers = _table(_json(store, "answers.json", "answers.json" in names))
    samples = _json(store, "samples.json", "samples.json" in names)
    return Facts(
        folder=run.path,
        recipe=recipe,
        sealed=store.sealed,
        whole=whole,
        trained=trained,
        plan=plan,
        data_set=sums,
        metrics=valid_lines(store.journal(METRICS_FILE).entries() if METRICS_FILE in names else ()),
        manifest=_table(_json(store, "data/manifest.json", "data/manifest.json" in names)),
        scores=_table(scores.get(recipe.task)),
        labels=_table(labels.get(ORIGINAL)),
        answers=_table(answers.get(ORIGINAL)),
        samples=[sample for sample in samples if isinstance(sample, dict)]
        if isinstance(samples, list)
        else [],
        speeds=_table(_json(store, "speeds.json", "speeds.json" in names)),
        variant_bytes={
            variant: _size(store, f"{variant_folder(variant)}/", names) for variant in variants_in(names)
        },
    )


def public_plan(plan: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """What of a plan says nothing about the records: it is guessed from a look at them, and tells their size in places.

    Storage, memory (the peak may be that of preparation, which follows the source's size) and the notes are left out; where the
    vocabulary is the characters of the records, so is the number of parameters.
    """
    shown = ["tokens", "seconds"]
    if recipe.tokenizer.kind != "char" or recipe.tokenizer.from_:
        shown += ["parameters", "train_flops"]
    public = {key: plan[key] for key in shown if key in plan}
    measured = {key: value for key, value in _table(plan.get("measured")).items() if key == "seconds"}
    return public | ({"measured": measured} if measured else {})


def public_scores(store: Store, recipe: Recipe, there: bool) -> dict[str, dict[str, Any]]:
    """The scores of a private run's model, where the recipe accepts by name that they tell of held-out records.

    Baselines are left out: they are counted on the training records, without any noise; and so are counts.
    """
    if recipe.privacy is None or "scores" not in recipe.privacy.allow:
        return {}
    variants = _table(_table(_json(store, "scores.json", there)).get(recipe.task))
    return {
        variant: {name: value for name, value in _table(metrics).items() if not _stays_inside(name)}
        for variant, metrics in variants.items()
    }


def _stays_inside(name: str) -> bool:
    metric = name.partition(".")[2]
    return metric == "answers" or metric.startswith(("bigram_", "majority_", "baseline_"))


# ---- the summary ---------------------------------------------------------------------------------------------------


def summary(run: Run, store: Store) -> dict[str, Any]:
    """What `run --json` and `info --json` print, from the run's files; null where the files do not say.

    Args:
        run: its folder.
        store: its files, opened.

    Returns:
        {run, status, task, family, parameters, steps, tokens, seconds, peak_bytes, loss: {train, validation},
        privacy, data_set: {id, unit, epsilon, delta, runs, uncovered}, variants: {name: {bytes, loss, agreement}},
        scores: {task: {variant: {metric: value}}}, sealed}; steps, tokens and seconds are what was done, not what is planned.

    Raises:
        RunError, VaultError: a file is there and cannot be read; names it.
    """
    facts = gather(run, store, whole=True)
    progress = trained_so_far(facts)
    loss = {"train": progress["loss"], "validation": validation_loss(facts)}
    return {
        "run": str(run.path),
        "status": status(run, store),
        "task": facts.recipe.task,
        "family": facts.recipe.model.family,
        "parameters": parameters(facts),
        "steps": progress["steps"],
        "tokens": progress["tokens"],
        "seconds": progress["seconds"],
        "peak_bytes": progress["peak_bytes"],
        "loss": loss,
        "privacy": guarantee(facts),
        "data_set": facts.data_set.to_json() if facts.data_set else None,
        "variants": variants(facts),
        "scores": {facts.recipe.task: facts.scores} if facts.scores else {},
        "sealed": facts.sealed,
    }


def variants(facts: Facts) -> dict[str, dict[str, Any]]:
    """{name: {bytes, loss, agreement}} of every variant of the model, the original first; what was not measured is None. The agreement
    is how often it says what the original says. Of models that write also {tokens_per_second, memory_bytes}, where there are several."""
    told = {name: _table(scores) for name, scores in facts.scores.items()}
    found = {
        name: {
            "bytes": size,
            "loss": told.get(name, {}).get("validation.loss"),
            "agreement": told.get(name, {}).get("validation.agreement"),
            **_table(facts.speeds.get(name)),
        }
        for name, size in facts.variant_bytes.items()
    }
    if ORIGINAL in found:
        found[ORIGINAL] |= {"loss": validation_loss(facts), "agreement": 1.0}
    return found


def guarantee(facts: Facts) -> dict[str, Any] | None:
    """ε and all that it depends on, after the steps made so far; None if training is not private, or not yet resolved."""
    mechanism = mechanism_in(facts.recipe)
    return None if mechanism is None else stated(mechanism, trained_so_far(facts)["steps"] or 0)


def trained_so_far(facts: Facts) -> dict[str, Any]:
    """{steps, tokens, seconds, waited_seconds, peak_bytes, loss} of the training done; None where unknown."""
    last = facts.last("train.end") or facts.last("train.step")
    return {"steps": last.get("step")} | {
        name: last.get(name) for name in ("tokens", "seconds", "waited_seconds", "peak_bytes", "loss")
    }


def validation_loss(facts: Facts) -> float | None:
    """The loss on the whole validation split where the model was scored, else the last that training measured."""
    at_end: float | None = facts.last("train.end").get("validation_loss")
    during: float | None = facts.last("train.validation").get("loss")
    scored: float | None = facts.score.get("validation.loss")
    return next((loss for loss in (scored, at_end, during) if loss is not None), None)


def parameters(facts: Facts) -> int | None:
    """As counted when training began, else as the plan says."""
    counted: int | None = facts.last("train.start").get("parameters", facts.plan.get("parameters"))
    return counted


def status(run: Run, store: Store) -> Status:
    """How far a run got, told from its files and its lock alone.

    new: nothing but a recipe; prepared: the data is there; training: another process is at work on it; interrupted:
    checkpoints and no model; trained: the model is there; evaluated: so are scores; complete: so is the report.
    """
    names = store.names()

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    if has("model/"):
        if not has("scores.json"):
            return "trained"
        return "complete" if (run.path / REPORT_FILE).is_file() else "evaluated"
    if _others_at_work(run):
        return "training"
    if has("checkpoints/"):
        return "interrupted"
    return "prepared" if has("data/manifest.json") else "new"


def _others_at_work(run: Run) -> bool:
    """Whether a process other than this one holds the run."""
    try:
        holder = json.loads((run.path / LOCK_FILE).read_text(encoding="utf-8") or "{}")
    except (OSError, ValueError):
        holder = {}
    ours = isinstance(holder, dict) and holder.get("pid") == os.getpid()
    return not ours and run.is_locked()


# ---- reading -------------------------------------------------------------------------------------------------------


def _json(store: Store, name: str, there: bool) -> Any:
    if not there:
        return None
    try:
        return store.read_json(name)
    except ValueError:
        raise RunError(
            "run.broken-file",
            "The file is not JSON.",
            where=str(store.path / name),
            mend="Restore it from a copy, or remove it and make it again with the verb that wrote it.",
        ) from None


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _size(store: Store, prefix: str, names: Iterable[str]) -> int:
    total = 0
    for name in names:
        if name.startswith(prefix):
            with store.open(name) as reader:
                total += reader.size
    return total
