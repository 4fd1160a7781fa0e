"""Which runs hold records of one owner, for whoever withdraws consent. What cannot be told is said with its reason."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..data import has_owners, load_manifest, owner_records
from ..errors import DataError, RunError, ShuyuanError
from ..privacy.ledger import LEDGER_FILE, spent
from ..recipe import Recipe
from ..runs import Run, not_prepared
from ..vault import Store, key_place, open_store

# What makes a folder a run, though its recipe may be lost.
_SIGNS = ("recipe.toml", "vault.json", "ledger.jsonl", "data/manifest.json", "model/config.json")


def owner_in_runs(owner: str, places: Iterable[Path], key: str | None = None) -> dict[str, Any]:
    """Which runs contain an owner, as `shuyuan info --owner --json` prints it.

    A run that starts from another one has learned from the other's records too, so that one is looked at as well.

    Args:
        owner: as the source writes it.
        places: runs, and folders in which all runs are looked for, however deep.
        key: where the vaults' key is, instead of where each recipe says.

    Returns:
        {owner, runs: [{run, contains, splits: {split: records}, private, epsilon, starts_from, reason}]}; contains is
        null where it cannot be told, and reason says why.

    Raises:
        RunError: there is no run at all in these places.
    """
    waiting = [run for place in places for run in _runs_in(place)]
    if not waiting:
        raise RunError(
            "run.no-runs",
            "No run was found.",
            where=", ".join(map(str, places)),
            mend="Name run folders, or a folder that holds some.",
        )
    rows: dict[Path, dict[str, Any]] = {}
    while waiting:
        path = waiting.pop(0)
        if path.resolve() not in rows:
            row = rows[path.resolve()] = _row(owner, path, key)
            waiting += _runs_behind(row["starts_from"])
    return {"owner": owner, "runs": list(rows.values())}


def _runs_in(place: Path) -> Iterator[Path]:
    """The runs at a place, or in it; also what is unreadable, so that it is named."""
    unreadable: list[Path] = []
    if not place.is_dir() or _is_run(place):
        yield place
        return
    for here, folders, _ in os.walk(
        place, onerror=lambda error: unreadable.append(Path(str(error.filename)))
    ):
        runs = sorted(name for name in folders if _is_run(Path(here, name)))
        folders[:] = sorted(set(folders) - set(runs))
        yield from (Path(here, name) for name in runs)
    yield from unreadable


def _is_run(folder: Path) -> bool:
    try:
        return any((folder / sign).exists() for sign in _SIGNS)
    except OSError:
        return True  # nobody may look into it: then it is named, with that reason


def _row(owner: str, path: Path, key: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"run": str(path), "contains": None, "splits": {}, "private": None, "epsilon": None}
    row |= {"starts_from": None, "reason": None}
    try:
        run = Run(path)
        recipe = run.recipe()
        row |= {"private": recipe.privacy is not None, "starts_from": recipe.model.from_}
        place = None if recipe.vault is None else key or key_place(recipe, run)
        with open_store(run, place, writable=False) as store:
            if recipe.privacy is not None:
                total = spent(store.journal(LEDGER_FILE).entries() if store.exists(LEDGER_FILE) else ())
                row["epsilon"] = total.epsilon
            splits = _splits(owner, recipe, store, path)
        row |= {"contains": bool(splits), "splits": splits}
    except ShuyuanError as error:
        row["reason"] = f"{error.what} [{error.code}]"
    except OSError as error:
        row["reason"] = f"The system refused: {error.strerror}."
    return row


def _splits(owner: str, recipe: Recipe, store: Store, path: Path) -> dict[str, int]:
    manifest = load_manifest(store)
    if manifest is None:
        raise not_prepared(path)
    if not has_owners(recipe):
        raise DataError(
            "data.no-owners",
            "Its records do not say whom they are about, so it cannot be told.",
            where=str(path),
            mend="Look for the person's records in its source.",
        )
    return owner_records(store, manifest, owner)


def _runs_behind(start: str | None) -> list[Path]:
    """The run whose weights, or whose model folder, another one starts from; none where it is no run."""
    places = [Path(start), Path(start).parent] if start else []
    return [place for place in places if Run(place).exists][:1]
