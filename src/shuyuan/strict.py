"""JSON in which no table has a name twice: of two entries with one name, one reader would believe the first and another the last."""

from __future__ import annotations

import json
from typing import Any


def parsed(content: str | bytes | bytearray) -> Any:
    """The value of a JSON text.

    Args:
        content: all of it; bytes are UTF-8.

    Raises:
        ValueError: it is no JSON, or a name stands twice in a table.
        RecursionError: it is nested too deeply.

    Reference: RFC 8259, section 4 ("the names within an object SHOULD be unique").
    """
    return json.loads(content, object_pairs_hook=_table)


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name stands in it twice")
    return table
