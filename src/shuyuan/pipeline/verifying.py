"""Whether a run is whole: every seal and chain, ε from its ledger, and its ledger beside the one of its data set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import vault
from ..errors import PrivacyError, RecipeError, RunError, VaultError
from ..privacy.data_sets import DataSetLedger
from ..privacy.ledger import LEDGER_FILE, spent
from ..runs import RECIPE_FILE, Run
from .job import Job
from .opening import look


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
