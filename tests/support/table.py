"""docs/support.md, as scripts/docs.py writes it: what works with what."""

from __future__ import annotations

from .families import FAMILIES
from .features import FEATURES

BEGINNING = """Rows are features, columns are families of models. Each cell has a test in tests/support: one that uses the feature, or, where the
cell says no, one that asks for it all the same and is refused. Numbers are the reasons below the table.
"""


def page(heading: str) -> str:
    """The page; `heading` stands above the table."""
    reasons: list[str] = []
    rows = []
    for feature in FEATURES.values():
        cells = [_cell(feature.without.get(name), reasons) for name in FAMILIES]
        rows.append(f"| {feature.title} | " + " | ".join(cells) + " |")
    titles = [family.title for family in FAMILIES.values()]
    lines = [
        heading,
        BEGINNING,
        "| | " + " | ".join(titles) + " |",
        "| --- |" + " --- |" * len(titles),
        *rows,
        "",
    ]
    lines += [f"{number}. {reason[0].upper()}{reason[1:]}." for number, reason in enumerate(reasons, 1)]
    return "\n".join(lines) + "\n"


def _cell(reason: str | None, reasons: list[str]) -> str:
    if reason is None:
        return "yes"
    if reason not in reasons:
        reasons.append(reason)
    return f"no ({reasons.index(reason) + 1})"
