"""Writes the pages of docs/ that are made from the code, so that they cannot go stale.

    python scripts/docs.py [--check]

With --check nothing is written: the exit status is 1 when a page differs from what the code says.
"""

from __future__ import annotations

import ast
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer.main
from python_reference import python_page
from typer.testing import CliRunner

from shuyuan import cli, handbook, recipe

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the table's rows and columns are those of its tests
from tests.support import table  # noqa: E402

DOCS = ROOT / "docs"
MADE = "<!-- Made by `make docs` from the code; edit the code instead. -->\n\n"


def main() -> int:
    """Writes the pages, or compares them."""
    pages = {
        DOCS / "recipe.md": recipe_page(),
        DOCS / "cli.md": cli_page(),
        DOCS / "errors.md": errors_page(),
        DOCS / "python.md": python_page(MADE),
        DOCS / "support.md": table.page("# What works with what\n\n" + MADE),
    }
    pages |= handbook_pages()
    if "--check" not in sys.argv:
        for file, text in pages.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return 0
    stale = [
        file for file, text in pages.items() if not file.exists() or file.read_text(encoding="utf-8") != text
    ]
    for file in stale:
        sys.stderr.write(f"{file.relative_to(ROOT)} is stale: run make docs\n")
    return 1 if stale else 0


def recipe_page() -> str:
    """Every key of a recipe, from the tables in recipe/."""
    lines = [
        "# Recipe reference\n",
        MADE,
        "One TOML file holds everything a run needs. Six lines are enough:\n",
    ]
    lines.append(
        '```toml\n[data]\nsource = "notes.jsonl"\ntext = "text"\n\n[train]\nbudget = "10 min"\n```\n'
    )
    for key, kind, default, text in recipe.fields():
        if kind == "table":
            lines += [
                f"\n## `[{key}]`\n",
                f"{text}\n",
                "| key | type | default | what it is |",
                "| --- | --- | --- | --- |",
            ]
            continue
        if key == "name":
            lines += [
                "\n## At the top\n",
                "| key | type | default | what it is |",
                "| --- | --- | --- | --- |",
            ]
        cells = [f"`{key}`", kind, default if default in ("required", "left out") else f"`{default}`", text]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def cli_page() -> str:
    """The help of every verb, as the command itself prints it."""
    lines = ["# Command reference\n", MADE]

    def add(command: Any, path: list[str]) -> None:
        shown = CliRunner(env={"TERMINAL_WIDTH": "100", "COLUMNS": "100"}).invoke(cli.app, [*path, "--help"])
        text = "\n".join(line.rstrip() for line in shown.stdout.strip().splitlines())
        lines.append(
            f"## {' '.join(['shuyuan', *path])}\n\n```text\n{text.replace('Usage: root', 'Usage: shuyuan')}\n```\n"
        )
        for name, inner in getattr(command, "commands", {}).items():
            add(inner, [*path, name])

    add(typer.main.get_command(cli.app), [])
    return "\n".join(lines)


def errors_page() -> str:
    """Every error code with its sentence and its mend, from the places that raise them."""
    rows: dict[str, tuple[str, str, str]] = {}
    for file in sorted((ROOT / "src/shuyuan").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _is_error(node):
                code, what, mend = _words(node)
                rows[code] = (what, mend, file.relative_to(ROOT / "src/shuyuan").as_posix())
    lines = [
        "# Errors\n",
        MADE,
        "Codes are stable; `--json` prints them as `error.code`. `…` stands for what is named.\n",
    ]
    lines += ["| code | what it says | how to mend it | raised in |", "| --- | --- | --- | --- |"]
    for code, (what, mend, place) in sorted(rows.items()):
        cells = (f"`{code}`", what, mend, f"`{place}`")
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _is_error(node: ast.Call) -> bool:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    first = node.args[0] if node.args else None
    is_code = isinstance(first, ast.Constant) and bool(re.fullmatch(r"[a-z]+\.[a-z-]+", str(first.value)))
    return is_code and (name.endswith("Error") or name == "Interrupted")


def _words(node: ast.Call) -> tuple[str, str, str]:
    code = node.args[0].value  # type: ignore[attr-defined]
    mend = next((word.value for word in node.keywords if word.arg == "mend"), None)
    return code, _text(node.args[1]) if len(node.args) > 1 else "…", _text(mend) if mend else "…"


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return "…"


def handbook_pages() -> dict[Path, str]:
    """The question bank, in both languages."""
    with tempfile.TemporaryDirectory() as folder:
        handbook.render(Path(folder))
        files = sorted(Path(folder).rglob("*.md"))
        return {
            DOCS / "handbook" / file.relative_to(folder): file.read_text(encoding="utf-8") for file in files
        }


if __name__ == "__main__":
    raise SystemExit(main())
