"""Whose records a run holds: asked for one owner by name, answered by the keyed hash that stands in the shards."""

from __future__ import annotations

import numpy as np

from ..recipe import OWNED_SOURCES, Recipe
from ..vault import Store
from .manifest import Manifest
from .shards import Shard
from .survey import named_owner, owner_hash


def has_owners(recipe: Recipe) -> bool:
    """Whether the records say whom they are about; if not, each is its own owner, and nobody can be asked for.

    Args:
        recipe: names the column of owners, or a source that has owners of its own.
    """
    return recipe.data.owner is not None or recipe.data.source in OWNED_SOURCES


def owner_records(store: Store, manifest: Manifest, owner: str) -> dict[str, int]:
    """How many records of an owner each split holds; splits that hold none are left out.

    Args:
        store: the run's files; its key turns the name into the hash.
        manifest: what was prepared.
        owner: as the source writes it; a number as its digits.
    """
    wanted = np.uint64(
        owner_hash(named_owner(owner.encode("utf-8", "surrogatepass")), store.derive_key("owners"))
    )
    found = {}
    for split, facts in manifest.splits.items():
        count = 0
        for shard in facts.shards:
            with store.open(shard.name) as reader:
                count += int((Shard(reader, shard.name).owners() == wanted).sum())
        if count:
            found[split] = count
    return found
