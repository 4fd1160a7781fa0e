"""Scores by what records have in common: the length of their texts, their label, how many records their owner has.

Legend: N records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tasks.measures import interval

SLICES = ("short", "middle", "long")
OWNER_SLICES = ("few", "some", "many")
MOST_LABELS = 50  # slices by label: the most frequent ones


def by_length(lengths: Sequence[int], values: Sequence[float], unit: str = "words") -> list[dict[str, Any]]:
    """The mean of records' scores by the length of their texts, a third of the records each.

    Args:
        lengths: of each record.
        values: its score.
        unit: that lengths are counted in.

    Returns:
        [{by, slice, from, to, unit, records, mean, low, high}].
    """
    length_N = np.array(lengths)
    thirds = np.array_split(np.argsort(length_N, kind="stable"), len(SLICES))
    return [
        _slice("length", name, part.tolist(), values, lengths, unit)
        for name, part in zip(SLICES, thirds, strict=True)
        if len(part)
    ]


def by_label(labels: Sequence[Sequence[str]], values: Sequence[float]) -> list[dict[str, Any]]:
    """The same by the records' labels, the most frequent first, a record in the slice of each that it has; without `from`, `to` and
    `unit`.

    Args:
        labels: of each record, all that it has.
        values: its score.
    """
    counts = Counter(label for own in labels for label in own)
    return [
        _slice("label", label, [place for place, own in enumerate(labels) if label in own], values)
        for label, _ in counts.most_common(MOST_LABELS)
    ]


def by_owner(owners: Sequence[Hashable], values: Sequence[float]) -> list[dict[str, Any]]:
    """The same by how many of these records a record's owner has, about a third of the records each; no owner is named.

    Owners of as many records are in one slice. There is none where all have as many.

    Args:
        owners: of each record.
        values: its score.

    Returns:
        As of `by_length`; `from` and `to` count records of an owner.
    """
    counts = Counter(owners)
    count_N = np.array([counts[owner] for owner in owners])
    sizes, records = np.unique(count_N, return_counts=True)
    if len(sizes) < 2:
        return []
    third_N = _thirds(sizes, records)[np.searchsorted(sizes, count_N)]
    parts = [np.flatnonzero(third_N == number).tolist() for number in range(len(OWNER_SLICES))]
    return [
        _slice("owner", name, part, values, count_N.tolist(), "records")
        for name, part in zip(OWNER_SLICES, parts, strict=True)
        if part
    ]


def _thirds(sizes: NDArray[np.int64], records: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which third of all records most of those of each size lie in, if they come in the order of their sizes."""
    middle = (np.cumsum(records) - records / 2) / records.sum()
    thirds: NDArray[np.int64] = np.minimum(middle * len(OWNER_SLICES), len(OWNER_SLICES) - 1).astype(np.int64)
    return thirds


def described(each: dict[str, Any]) -> str:
    """The name of a slice, for people.

    Args:
        each: as `by_length`, `by_label` or `by_owner` give it.
    """
    if "from" not in each:
        return f"label {each['slice']}"
    unit = each.get("unit", "words")  # runs of before have words alone
    spread = f"{each['from']:,} to {each['to']:,} {unit}"
    return f"{each['slice']}: {'owners of ' if each.get('by') == 'owner' else ''}{spread}"


def _slice(
    by: str,
    name: str,
    places: list[int],
    values: Sequence[float],
    sizes: Sequence[int] | None = None,
    unit: str = "",
) -> dict[str, Any]:
    mean, low, high = interval([values[place] for place in places])
    found: dict[str, Any] = {"by": by, "slice": name}
    if sizes is not None:
        here = [sizes[place] for place in places]
        found |= {"from": min(here), "to": max(here), "unit": unit}
    return found | {"records": len(places), "mean": mean, "low": low, "high": high}
