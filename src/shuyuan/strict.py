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
    return json.loads(content, object_pairs_hook=table)


class TwiceNamedError(ValueError):
    """A table in which a name stands twice.

    Args:
        name: which; an attribute too.
    """

    def __init__(self, name: str) -> None:
        super().__init__("a name stands in it twice")
        self.name = name


def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A table of its pairs, as a hook of json's readers.

    Args:
        pairs: name and value, in the order of the text.

    Raises:
        TwiceNamedError: a name stands in it twice.
    """
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise TwiceNamedError(next(name for name in names if names.count(name) > 1))
    return made
