"""How many units a source has: counted once, and kept in the cache folder until a file of the source changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
from dataclasses import astuple, replace
from pathlib import Path

from ..data import Manifest
from ..data.records import open_records
from ..data.sources import Skipped
from ..data.split import TRAIN
from ..hardware import cache_folder
from ..recipe import Recipe

SECONDS = 1.5  # that a plan takes for counting
MOST_KEPT = 256  # counts in the cache; the oldest go


def with_units(recipe: Recipe, manifest: Manifest) -> tuple[Manifest, list[str]]:
    """A guessed manifest with the number of units that the source really has, and a sentence on how it was found.

    Args:
        recipe: with a [privacy] table.
        manifest: as `estimated_manifest` guesses it, which takes every record for a unit.
    """
    source, by_owner = recipe.data.source, recipe.privacy is not None and recipe.privacy.unit == "owner"
    if isinstance(source, str) and source.startswith("hf:"):
        return manifest, []
    units, whole = counted(recipe, by_owner)
    planted = recipe.audit.canaries // 2  # a fair coin for each
    held_out = sum(share for share in (recipe.data.validation, recipe.data.test) if isinstance(share, float))
    train = manifest.splits["train"]
    if whole:
        learned = max(1, round(units * (1 - held_out)))
        learned += planted
        split = replace(train, owners=learned) if by_owner else replace(train, records=learned)
        what = "owners" if by_owner else "records"
        beside = f" About {planted:,} planted canaries are {what} too." if planted else ""
        return replace(manifest, splits=manifest.splits | {"train": split}), [
            f"The source has {units:,} {what}, duplicates not foreseen.{beside}"
        ]
    if not by_owner:
        return manifest, []
    return manifest, [
        f"The source is too large to count its owners in a plan: {train.owners:,} are assumed, one for each record; fewer owners "
        "need more noise."
    ]


def counted(recipe: Recipe, by_owner: bool) -> tuple[int, bool]:
    """Units of the source, and whether all of it was read; from the cache where nothing changed."""
    records = open_records(recipe)
    facts = [astuple(fact) for fact in records.facts()]
    told = json.dumps([facts, recipe.data.model_dump(mode="json"), recipe.task, by_owner], sort_keys=True)
    key = hashlib.sha256(told.encode()).hexdigest()[:16]
    file = cache_folder() / "units.json"
    known = _read(file)
    if key in known:
        return known[key], True
    owners: set[bytes] = set()
    alone, end = 0, time.monotonic() + SECONDS
    each = records.each(Skipped())  # held, so that leaving early does not skip to the file's end
    for record in each:
        if record.part != TRAIN:
            break
        if by_owner and record.owner is not None:
            owners.add(hashlib.blake2b(record.owner, digest_size=16).digest())
        else:
            alone += 1
        if time.monotonic() > end:
            return len(owners) + alone, False
    _write(file, dict(list(known.items())[1 - MOST_KEPT :]) | {key: len(owners) + alone})
    return len(owners) + alone, True


def _read(file: Path) -> dict[str, int]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    sound = isinstance(known, dict) and all(type(count) is int and count >= 0 for count in known.values())
    return known if sound else {}


def _write(file: Path, known: dict[str, int]) -> None:
    """A cache that cannot be written is counted again next time."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".partial", delete=False) as out:
            json.dump(known, out)
        Path(out.name).replace(file)
