"""Finding and opening the run that a verb was given, or making its folder."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import data, hardware, vault
from .. import recipe as recipes
from ..errors import RecipeError, RunError, out_of_memory
from ..privacy.data_sets import data_set_id
from ..privacy.doubts import doubts
from ..progress import Progress, Stop
from ..recipe import Recipe
from ..runs import LOCK_FILE, RECIPE_FILE, Run
from ..sizes import size
from ..train.memory import forget_peak
from ..train.metrics import METRICS_FILE
from .job import PLAN_FILE, Job, log

RUNS = Path("runs")
NOT_SEALED = "Not sealed: this run lies in the clear, and nothing in it is hidden."
RECIPES = Path(__file__).parents[1] / "recipes"  # `shuyuan run NAME` finds them by name
Target = str | Path | Recipe | dict[str, Any]


def locate(target: Target, out: str | Path | None = None, changes: Sequence[str] = ()) -> tuple[Run, Recipe]:
    """The run and recipe that a verb was given: a run folder, a recipe file, or a recipe in memory.

    Args:
        target: a run folder, a recipe file, the name of a recipe that comes with Shuyuan, or a recipe in memory.
        out: the folder of a new run; default runs/NAME.
        changes: `--set` changes.

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
        elif path.exists():
            recipe = recipes.load(path, list(changes))
        else:
            raise _missing(path)
        return Run(out or RUNS / recipe.name), recipe
    run = Run(path)
    resolved = run.recipe()
    if changes:
        table = resolved.model_dump(by_alias=True, exclude_none=True)
        run.check_same(recipes.from_table(table, list(changes), where=str(path)))
    return run, resolved


def _missing(path: Path) -> RecipeError:
    """The refusal of a path where nothing is, with what may be meant: a recipe or run beside it, or a recipe that comes with Shuyuan."""
    ready = sorted(each.stem for each in RECIPES.glob("*.toml"))
    there = [str(each) for each in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    there += [str(each.parent) for each in RUNS.glob("*/recipe.toml")]
    names = {each: each for each in [*there, *ready]} | {
        str(Path(each).with_suffix("")): each for each in there
    }
    names |= {Path(each).name: each for each in there}
    near = difflib.get_close_matches(str(path), names, n=1, cutoff=0.7)
    return RecipeError(
        "recipe.missing",
        "There is no such recipe or run.",
        where=str(path),
        mend=f"Did you mean {names[near[0]]}?"
        if near
        else f"Check the path. Ready recipes are: {', '.join(ready)}.",
    )


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

    Raises:
        RunError: another process holds the run, the folder is something else, or the recipe is another than the run's.
        RecipeError: a change makes no sense.
        VaultError: the key does not open the run.
        MachineError: memory was exhausted inside, in place of torch's or the system's own error.
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
    if fresh:
        say_what_is_idle(recipe, progress)
    if recipe.vault is None:
        progress.say("vault.open", NOT_SEALED)
    with run.lock(verb) as killed:
        forget_peak()
        try:
            with vault.open_store(run, key, create=fresh) as store:
                if killed:
                    progress.say("run.killed", _killed(killed, store))
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
    """Opens a run that is there, for reading; it may be at work meanwhile.

    Args:
        target: the run folder.
        key: where the vault's key is, instead of where the recipe says.
    """
    run = Run(target)
    recipe = run.recipe()
    with vault.open_store(run, key or vault.key_place(recipe, run), writable=False) as store:
        yield Job(run, store, recipe)


def say_what_is_idle(recipe: Recipe, progress: Progress) -> None:
    """Says once which settings of a recipe have no effect.

    Args:
        recipe: as asked.
        progress: hears of it.
    """
    if reasons := recipes.idle(recipe):
        progress.say("recipe.no-effect", " ".join(reasons))


def say_doubts(recipe: Recipe, stated: dict[str, Any], plan: dict[str, Any], progress: Progress) -> None:
    """Says what speaks against the settings of a private run.

    Args:
        recipe: as asked, or as resolved.
        stated: its mechanism.
        plan: of the recipe.
        progress: hears of it.
    """
    learning = (plan["lora"] or plan)["parameters"]
    guessable = recipe.privacy is not None and recipe.privacy.insecure_seed is not None
    for code, text in doubts(stated, learning, guessable=guessable):
        progress.say(code, text)


def _killed(killed: str, store: vault.Store) -> str:
    """What is said of a process that ended without a word, with what is known of memory: the system gives no reason when it kills."""
    told = (
        f"The process that was at work here ({killed}) was ended from outside: by somebody, by a power cut, or by the system for want "
        "of memory. What it wrote is whole, and the work goes on from there."
    )
    if not store.exists(PLAN_FILE):
        return told
    peak, there = store.read_json(PLAN_FILE)["peak_bytes"], hardware.detect().memory_bytes
    return (
        f"{told} The plan counts on {size(peak['expected'])} of memory at the peak, {size(peak['high'])} at most; this machine has "
        f"{size(there)} for all that runs on it. If it was for memory, end what else needs some, or begin a new run with a smaller "
        "train.micro_batch."
    )


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
            log(job, {"event": "notice", "code": code, "text": text})


def _worth_keeping(run: Run) -> bool:
    """Whether anything of the run came so far that work would be lost: its data folder has files."""
    folder = run.path / "data"
    return folder.is_dir() and any(folder.iterdir())
