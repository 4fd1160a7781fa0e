"""The life of a run from recipe to report: each function does what is missing, and can be interrupted and repeated.

Long because every verb stands here once, in the order in which a run meets them; each is short and calls one room.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, compress, data, evaluate, hardware, planning, report, train, vault
from . import export as exports
from . import recipe as recipes
from .errors import MachineError, PrivacyError, RecipeError, RunError, VaultError, out_of_memory
from .models import load_network, rnn_folder
from .models.keras_library import check_installed
from .privacy.data_sets import DataSetLedger, data_set_id, note_free, together
from .privacy.ledger import LEDGER_FILE, spent
from .progress import Progress, Stop
from .recipe import Recipe
from .runs import (
    LOCK_FILE,
    ORIGINAL,
    RECIPE_FILE,
    Run,
    no_variant,
    not_prepared,
    not_trained,
    variants_in,
)
from .sizes import size
from .tasks import task_named
from .tasks.measures import check_installed as check_scores
from .train.memory import forget_peak, give_back, peak_memory
from .train.metrics import METRICS_FILE
from .train.tuning import tune as tune_model

if TYPE_CHECKING:
    from .planning import scaling

PLAN_FILE = "plan.json"
RUNS = Path("runs")
RECIPES = Path(__file__).parent / "recipes"  # `shuyuan run NAME` finds them by name
VERSIONED = ("torch", "tokenizers", "numpy", "cryptography", "safetensors")
Target = str | Path | Recipe | dict[str, Any]


@dataclass
class Job:
    """A run that is open for work: its folder, its files, its recipe as resolved so far."""

    run: Run
    store: vault.Store
    recipe: Recipe
    progress: Progress = field(default_factory=Progress)
    stop: Stop = field(default_factory=Stop)


# ---- finding and opening -------------------------------------------------------------------------------------------


def locate(target: Target, out: str | Path | None = None, changes: Sequence[str] = ()) -> tuple[Run, Recipe]:
    """The run and recipe that a verb was given: a run folder, a recipe file, or a recipe in memory.

    Raises:
        RecipeError: there is no such file, or it is refused.
        RunError: changes were asked of a run that is there already.
    """
    if isinstance(target, Recipe | dict):
        recipe = target if isinstance(target, Recipe) else recipes.from_table(target, list(changes))
        return Run(out or RUNS / recipe.name), recipe
    path = Path(target)
    if not path.is_dir():
        built_in = RECIPES / f"{path.name}.toml"
        if not path.exists() and str(target) == path.name and built_in.is_file():
            recipe = recipes.load(built_in, list(changes), folder=Path.cwd())
        else:
            recipe = recipes.load(path, list(changes))
        return Run(out or RUNS / recipe.name), recipe
    run = Run(path)
    resolved = run.recipe()
    if changes:
        table = resolved.model_dump(by_alias=True, exclude_none=True)
        run.check_same(recipes.from_table(table, list(changes), where=str(path)))
    return run, resolved


@contextmanager
def begin(
    target: Target,
    verb: str,
    *,
    out: str | Path | None = None,
    changes: Sequence[str] = (),
    key: str | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Iterator[Job]:
    """Opens a run for work, or makes its folder; a fresh folder that got nowhere is taken away again.

    Args:
        target: run folder, recipe file, or recipe.
        verb: said to others who find the run locked.
        out: the folder of a new run; default runs/NAME.
        changes: `--set` changes.
        key: where the vault's key is, instead of where the recipe says.
        progress: hears about stages.
        stop: set by whoever wants the work to end early.
    """
    progress, stop = progress or Progress(), stop or Stop()
    run, recipe = locate(target, out, changes)
    fresh = not run.exists
    if fresh:
        _refuse_strange_folder(run)
        recipe = _pinned(recipe)
        recipe = recipe.replace(**{"data.id": data_set_id(recipe)}, **data.found_columns(recipe, progress))
    else:
        run.check_same(recipe)
        recipe = run.recipe()
    in_folder = isinstance(target, str | Path) and Path(target).is_dir()
    key = key or vault.key_place(recipe, run if in_folder else None)
    if recipe.vault is None:
        progress.say("vault.open", "Not sealed: this run lies in the clear, and nothing in it is hidden.")
    with run.lock(verb) as killed:
        if killed:
            progress.say(
                "run.killed",
                f"The process that was at work here ({killed}) was killed: by somebody, by a power cut, or by the system for want "
                "of memory. What it wrote is whole, and the work goes on from there.",
            )
        forget_peak()
        try:
            with vault.open_store(run, key, create=fresh) as store:
                if fresh:
                    store.write_open(RECIPE_FILE, recipe.as_toml().encode())
                job = Job(run, store, recipe, progress, stop)
                yield job
                _log_notices(job)
        except BaseException as error:
            if fresh and not _worth_keeping(run):
                shutil.rmtree(run.path, ignore_errors=True)
            if (exhausted := out_of_memory(error)) is not None:
                raise exhausted from None
            raise


@contextmanager
def look(target: str | Path, key: str | None = None) -> Iterator[Job]:
    """Opens a run that is there, for reading; it may be at work meanwhile."""
    run = Run(target)
    recipe = run.recipe()
    with vault.open_store(run, key or vault.key_place(recipe, run), writable=False) as store:
        yield Job(run, store, recipe)


def _pinned(recipe: Recipe) -> Recipe:
    """The recipe with the commits that stand behind what it takes from the hub."""
    places = {"model.from": recipe.model.from_, "tokenizer.from": recipe.tokenizer.from_}
    places["train.distill.from"] = recipe.train.distill.from_ if recipe.train.distill else None
    changes = {key: data.pinned(place) for key, place in places.items() if place is not None}
    return recipe.replace(**changes) if changes else recipe


# What a kill at the very start of a run leaves.
_BEGUN = (LOCK_FILE, f"{RECIPE_FILE}.partial", "vault.json.partial")


def _refuse_strange_folder(run: Run) -> None:
    if run.path.exists() and not run.path.is_dir():
        raise RunError(
            "run.not-a-folder",
            "There is a file of that name.",
            where=str(run.path),
            mend="Choose another --out.",
        )
    strangers = (
        [entry.name for entry in run.path.iterdir() if entry.name not in _BEGUN] if run.path.exists() else []
    )
    if strangers and "vault.json" not in strangers:  # a vault without a recipe: killed a moment later
        raise RunError(
            "run.folder-in-use",
            f"The folder holds something else ({', '.join(sorted(strangers)[:3])}).",
            where=str(run.path),
            mend="Choose an empty folder with --out.",
        )


def _log_notices(job: Job) -> None:
    """Keeps what was said to the user, each thing once, so that the report can tell it too."""
    entries = job.store.journal(METRICS_FILE).entries()
    logged = {entry.get("code") for entry in entries if entry["event"] == "notice"}
    for code, text in job.progress.said.items():
        if code not in logged:
            _log(job, {"event": "notice", "code": code, "text": text})


def _log(job: Job, event: dict[str, Any]) -> None:
    job.store.journal(METRICS_FILE).append(event | {"time": round(time.time(), 3)})


def _worth_keeping(run: Run) -> bool:
    """Whether anything of the run came so far that work would be lost: its data folder has files."""
    folder = run.path / "data"
    return folder.is_dir() and any(folder.iterdir())


# ---- the verbs -----------------------------------------------------------------------------------------------------


def run(target: Target, *, model: Any = None, **options: Any) -> dict[str, Any]:
    """Everything the recipe asks for: plan, prepare, train, compress, evaluate, report. Options as in `begin`.

    Args:
        target: as in `begin`.
        model: a model of Keras to start from, or a function that makes one; it is kept beside the run's folder, in the clear.

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
    """All stages in order; those that are done already cost nothing."""
    make_plan(job)
    prepare(job)
    train_model(job)
    compress_model(job)
    evaluate_model(job)
    if job.recipe.audit.canaries and not job.store.exists(evaluate.AUDIT_FILE):
        audit_model(job)
    write_report(job)


def make_plan(job: Job) -> dict[str, Any]:
    """Predicts memory, time and storage, and refuses what cannot fit before any work.

    Raises:
        MachineError: the run does not fit this machine; names the nearest settings that do. Or it needs an extra that is not there.
    """
    train.check_ranks(job.recipe)
    if job.recipe.model.family == "rnn":
        check_installed()
    check_scores(task_named(job.recipe.task))
    if job.store.exists(PLAN_FILE):
        plan: dict[str, Any] = job.store.read_json(PLAN_FILE)
    else:
        plan = plan_for(job.recipe, data.load_manifest(job.store), job.progress)
        forget_peak()  # measuring the machine takes 130 MB, once, and is not what was predicted
        job.store.write_json(PLAN_FILE, plan)
    if not plan["fits"]:
        advice = " ".join(plan["advice"]) or "Choose a smaller model.size."
        if any(each["change"] and each["fits"] for each in plan.get("better", [])):
            advice += " `shuyuan plan RECIPE --apply` writes the first of them."
        raise MachineError(
            "plan.does-not-fit",
            f"This needs about {size(plan['peak_bytes']['expected'])} at its peak, more than this machine has.",
            where=job.recipe.name,
            mend=advice,
        )
    return plan


def plan_for(
    recipe: Recipe,
    manifest: data.Manifest | None,
    progress: Progress,
    elsewhere: hardware.Machines | None = None,
    hourly_price: float | None = None,
    layout: str = "",
) -> dict[str, Any]:
    """The plan of a recipe on this machine, or on others, as `shuyuan plan --json` prints it.

    Args:
        recipe: as asked, or as resolved.
        manifest: of the prepared data, if there is one.
        progress: hears of measurements.
        elsewhere: other machines than this one.
        hourly_price: of one device.
        layout: how the model lies over them, such as "tensor=8,pipeline=16,recompute".
    """
    if manifest is None:
        recipe = recipe.replace(**data.found_columns(recipe, progress))
    machine = elsewhere.hardware if elsewhere else hardware.detect()
    rates = elsewhere.rates if elsewhere else partial(planning.measured_pace, machine, progress)
    how = planning.layout(layout, elsewhere or hardware.Machines(machine, hardware.assumed_rates(machine)))
    return planning.plan(recipe, machine, rates, manifest, elsewhere, hourly_price, how).to_json()


def apply_advice(
    target: Path, plan: dict[str, Any], to: Path | None = None, changes: Sequence[str] = ()
) -> dict[str, Any]:
    """Writes the first settings that a plan advises into its recipe, and those of `--set` that it was made with.

    Args:
        target: the recipe's file, or the name of one that comes with Shuyuan.
        plan: as `plan_for` gives it.
        to: another file, which is not there yet; None: over the recipe.
        changes: `--set` changes.

    Returns:
        {file, changes: [{key, was, now}], comments_kept}.

    Raises:
        RecipeError, RunError: there is nothing to apply, or no file to write it to.
    """
    from .planning.rewrite import write

    if target.is_dir():
        raise RunError(
            "plan.run-stands",
            "A run belongs to one recipe, which is not changed any more.",
            where=str(target),
            mend="Give the recipe's own file, and the changed one a run of its own with --out.",
        )
    built_in = not target.exists()
    file = RECIPES / f"{target.name}.toml" if built_in else target
    if built_in and to is None:
        raise RecipeError(
            "plan.built-in",
            f"The recipe {target.name} comes with Shuyuan, and stays as it is.",
            where="--apply",
            mend="Name a file for the changed one: --to mine.toml",
        )
    better = next((each["change"] for each in plan["better"] if each["change"] and each["fits"]), None)
    if better is None:
        raise RecipeError(
            "plan.nothing-to-apply",
            "No setting of this recipe is known that would be better here.",
            where=str(target),
            mend="Leave --apply out. Where the plan advises other machines, give these with --on.",
        )
    asked = recipes.load(file, list(changes)).model_dump(by_alias=True)
    given = {change.partition("=")[0].strip(): None for change in changes}
    for key in given:
        here: Any = asked
        for part in key.split("."):
            here = here[part]
        given[key] = here
    return write(file, to or file, given | better).to_json()


def fit_law(patterns: Sequence[str], key: str | None = None, to: Path | None = None) -> dict[str, Any]:
    """A law of loss fitted to finished runs, as `shuyuan plan --fit … --json` prints it.

    Args:
        patterns: run folders, or patterns of them.
        key: where the vaults' key is, instead of where the recipes say.
        to: a page with the picture, in the clear; None: none is written.

    Raises:
        RunError: a run is not finished, is private, or was made of other records; or there are too few.
    """
    from .planning import scaling

    points, settings = [], {}
    for folder in sorted({found for pattern in patterns for found in (glob(pattern) or [pattern])}):  # noqa: PTH207 - patterns may be absolute
        with look(folder, key) as job:
            points.append(_point(job))
            settings[folder] = manifest_of(job).settings
    if len(set(settings.values())) > 1:
        one, other = sorted({digest: folder for folder, digest in settings.items()}.values())[:2]
        raise RunError(
            "plan.other-records",
            f"Losses of {one} and {other} cannot be compared: their recipes say different things of data or tokenizer.",
            where="--fit",
            mend="Give runs whose recipes differ in [model] and [train] alone.",
        )
    found = scaling.fitted(points)
    if to is None:
        return found.to_json() | {"page": None}
    if to.exists():
        raise RunError(
            "plan.file-in-use", "There is a file already.", where=str(to), mend="Choose another --to."
        )
    vault.disk.replace_file(to, report.law_page(found).encode())
    return found.to_json() | {"page": str(to)}


def _point(job: Job) -> scaling.Point:
    from .planning import scaling

    told = report.summary(job.run, job.store)
    loss = (told["loss"] or {}).get("validation")
    if loss is None or told["privacy"]:
        why = "has no validation loss" if loss is None else "is private, and its loss follows the noise too"
        raise RunError(
            "plan.not-for-a-law",
            f"The run {why}.",
            where=str(job.run.path),
            mend="Fit a law to finished runs without privacy.",
        )
    return scaling.Point(told["parameters"], told["tokens"], loss)


def prepare(job: Job) -> data.Manifest:
    """Cleans, masks, splits and tokenizes the source into shards; once."""
    prepared_before = data.load_manifest(job.store) is not None
    manifest = data.prepare(job.recipe, job.store, job.progress)
    if not prepared_before:
        facts = {"seconds": manifest.seconds, "records": manifest.records, "tokens": manifest.tokens}
        _log(job, {"event": "prepare", **facts, "peak_bytes": peak_memory()})
    give_back()
    return manifest


def train_model(job: Job) -> None:
    """Resolves what the recipe left open, once, and trains to the last step; goes on from the newest checkpoint."""
    manifest = manifest_of(job)
    if job.recipe.train.steps is None or not job.recipe.resolved:
        resolved = train.resolve(job.recipe, manifest, hardware.detect(), job.progress)
        job.recipe = resolved.replace(resolved=_circumstances(manifest) | _mechanism(resolved, manifest))
        job.store.write_open(RECIPE_FILE, job.recipe.as_toml().encode())

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
    _measured_peak(job)
    return variants_in(job.store.names())


def evaluate_model(job: Job, *, again: bool = False) -> dict[str, Any]:
    """Scores the model and its variants on the held-out splits and writes samples; each once, unless `again`."""
    names = job.store.names()
    if all(file in names for file in (evaluate.SCORES_FILE, evaluate.SAMPLES_FILE)) and not again:
        scores: dict[str, Any] = job.store.read_json(evaluate.SCORES_FILE)
        if set(variants_in(names)) <= scores.get(job.recipe.task, {}).keys():
            return scores
    give_back()
    scores = evaluate.evaluate(job.recipe, job.store, manifest_of(job), job.progress, again=again)
    _measured_peak(job)
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
    """What planted canaries prove about ε, as `shuyuan audit --json` prints it."""
    give_back()
    found = evaluate.audit(job.recipe, job.store, manifest_of(job), job.progress, white_box=white_box)
    _measured_peak(job)
    return found


def write_report(job: Job) -> Path:
    """Writes report.html: whole in an open run, only what says nothing about records in a sealed or private one."""
    give_back()
    return report.write_report(job.run, job.store, job.recipe)


def format_of(job: Job) -> str:
    """What the run's model is written as: "keras" or "huggingface"."""
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
    """Whether an export of a run is noted in it, so that it has to be opened for work: where it is sealed or private."""
    recipe = Run(target).recipe()
    return recipe.vault is not None or recipe.privacy is not None


def _note_export(job: Job, what: str) -> None:
    """Has the run's log and its ledgers say that a copy leaves it, before it does."""
    _log(job, {"event": "export", "what": what})
    if job.store.exists(LEDGER_FILE):
        note_free(job.recipe, job.store, "export", what, "A copy of what was released, in the clear.")


def verify(target: str | Path, key: str | None = None, expect: str | None = None) -> dict[str, Any]:
    """Checks every seal and chain of a run, also of one that no longer opens, as `shuyuan verify --json` prints it.

    Args:
        target: the run folder.
        key: where the vault's key is, instead of where the recipe says.
        expect: a head noted earlier, which an older folder put back cannot reproduce.
    """
    run = Run(target)
    found: list[vault.Problem] = []
    try:
        recipe = run.recipe()
        key = key or vault.key_place(recipe, run)
    except RecipeError as error:
        if key is None:
            found.append(
                vault.Problem(RECIPE_FILE, f"{error.what} With --key the other files can be checked too.")
            )
    problems, head = ([], None) if found else vault.verify_run(run, key, expect)
    epsilon = None
    if not found:
        with suppress(VaultError, RunError), look(target, key) as job:
            ledger = list(_ledger(job))
            epsilon = _recomputed(ledger)
            problems += _missing_in_data_set(job, ledger)
    named = [{"file": problem.file, "what": problem.what} for problem in found + problems]
    return {"ok": not named, "problems": named, "epsilon_recomputed": epsilon, "head": head}


def _ledger(job: Job) -> Iterator[dict[str, Any]]:
    return job.store.journal(LEDGER_FILE).entries() if job.store.exists(LEDGER_FILE) else iter(())


def _recomputed(ledger: list[dict[str, Any]]) -> float | None:
    """ε from the ledger's lines alone; None where no private step stands in it."""
    total = spent(ledger)
    return total.epsilon if total.steps else None


def _missing_in_data_set(job: Job, ledger: list[dict[str, Any]]) -> list[vault.Problem]:
    """What the run's own ledger has and the one of its data set lacks, as a problem of the latter."""
    if not ledger:
        return []
    try:
        shared = DataSetLedger.of_run(job.recipe, job.run.path)
        lacking = len(shared.lacking(ledger))
    except PrivacyError as error:
        return [vault.Problem(error.where or "", error.what)]
    what = (
        f"the data set's ledger lacks {lacking} entries of this run, so the sum over its runs is too small; "
        f"this enters them again: shuyuan train {job.run.path}"
    )
    return [vault.Problem(str(shared.path), what)] if lacking else []


# ---- helpers -------------------------------------------------------------------------------------------------------


def _measured_peak(job: Job) -> None:
    """Has the measured peak, which stands beside the plan's, cover what came after training too."""
    if job.store.exists(PLAN_FILE) and "measured" in (plan := job.store.read_json(PLAN_FILE)):
        peak = peak_memory(hardware.detect().device)
        plan["measured"]["peak_bytes"] = max(plan["measured"]["peak_bytes"], peak)
        job.store.write_json(PLAN_FILE, plan)


def manifest_of(job: Job) -> data.Manifest:
    """What was prepared.

    Raises:
        RunError: nothing was yet.
    """
    manifest = data.load_manifest(job.store)
    if manifest is None:
        raise not_prepared(job.run.path)
    return manifest


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


__all__ = ["Job", "begin", "everything", "locate", "look", "manifest_of", "plan_for", "run"]
