"""The plan of a recipe: told, kept in the run, refused where it cannot fit, and its advice written into the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .. import data, hardware, planning, train
from .. import recipe as recipes
from ..errors import MachineError, RecipeError, RunError
from ..models.keras_library import check_installed
from ..progress import Progress
from ..recipe import Recipe
from ..sizes import size
from ..tasks import task_named
from ..tasks.measures import check_installed as check_scores
from ..train.memory import forget_peak
from .job import PLAN_FILE, Job
from .opening import RECIPES, say_doubts, say_what_is_idle


def make_plan(job: Job) -> dict[str, Any]:
    """Predicts memory, time and storage, and refuses what cannot fit before any work.

    Args:
        job: a run, opened for work.

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
    say_what_is_idle(recipe, progress)
    if manifest is None:
        recipe = recipe.replace(**data.found_columns(recipe, progress))
    machine = elsewhere.hardware if elsewhere else hardware.detect()
    rates = elsewhere.rates if elsewhere else partial(planning.measured_pace, machine, progress)
    how = planning.layout(layout, elsewhere or hardware.Machines(machine, hardware.assumed_rates(machine)))
    plan = planning.plan(recipe, machine, rates, manifest, elsewhere, hourly_price, how).to_json()
    if plan["privacy"]:
        say_doubts(recipe, plan["privacy"], plan, progress)
    return plan


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
    from ..planning.rewrite import write

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
