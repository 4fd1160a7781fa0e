"""`shuyuan doctor`: what this machine can do and what is missing."""

from __future__ import annotations

from typing import Any

from ..sizes import size
from .frame import AsJson, Debug, frame


def doctor(as_json: AsJson = False, debug: Debug = False) -> None:
    """Show what this machine can do and what is missing. Runs self-tests."""
    with frame(as_json, debug) as answer:
        from .. import doctor

        found = doctor.examine()
        answer.give(found, lambda: _show(answer.screen.out, found))


def _show(out: Any, found: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    machine = found["hardware"]
    out.print(f"{machine['name']}: {machine['cores']} cores, {size(machine['memory_bytes'])} of memory")
    out.print(f"precision: {found['precision']}")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for check in found["checks"]:
        table.add_row("ok" if check["ok"] else "NO", check["name"], escape(check["detail"]))
    out.print(table)
