"""Gathers the pages of the documentation site in build/site-source, for mkdocs to build.

    python scripts/docs_site.py && mkdocs build --strict

docs/ and the documents beside it (README, CHANGELOG, …) become one folder; links between them are rewritten. mkdocs itself
does not come into it, so that a test can look at the pages without it.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "build/site-source"
# Documents beside docs/, and what they are called in the site.
BESIDE = {
    "README.md": "index.md",
    "README.zh-CN.md": "index.zh.md",
    "CHANGELOG.md": "changelog.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
}
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#:]+)((?:#[^)]*)?)\)")
FENCED_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def pages() -> dict[str, str]:
    """Every page of the site by its path in it, with links as they are there."""
    found = {
        f"docs/{file.relative_to(ROOT / 'docs').as_posix()}": file for file in (ROOT / "docs").rglob("*.md")
    }
    found |= {name: ROOT / name for name in BESIDE}
    return {
        in_site(place): _relinked(place, file.read_text(encoding="utf-8")) for place, file in found.items()
    }


def in_site(place: str) -> str:
    """Where a file of the repository is in the site."""
    return BESIDE.get(place, place.removeprefix("docs/"))


def _relinked(place: str, text: str) -> str:
    """The text of a file with its links to other files as they are in the site."""
    here = PurePosixPath(place)

    def link(found: re.Match[str]) -> str:
        target = _joined(here.parent, found[2])
        if (ROOT / target).is_dir():
            target += "/en/index.md"
        if target not in BESIDE and not target.startswith("docs/") and (ROOT / target).is_file():
            return found[1]  # a file of the repository that the site does not have
        return f"[{found[1]}]({_from(PurePosixPath(in_site(place)), in_site(target))}{found[3]})"

    parts = re.split(f"({FENCED_BLOCK.pattern})", text, flags=FENCED_BLOCK.flags)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def _joined(folder: PurePosixPath, link: str) -> str:
    parts: list[str] = []
    for part in (folder / link).parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _from(page: PurePosixPath, target: str) -> str:
    return "../" * (len(page.parts) - 1) + target


def expanded(nav: list[Any], names: list[str]) -> list[Any]:
    """The navigation with the pages of a folder in the place of a folder's name, its index first."""

    def one(entry: Any) -> Any:
        if isinstance(entry, dict):
            return {title: one(inner) for title, inner in entry.items()}
        if isinstance(entry, list):
            return expanded(entry, names)
        if not entry.endswith("/"):
            return entry
        return sorted(
            (name for name in names if name.startswith(entry)), key=lambda name: ("/index." not in name, name)
        )

    return [one(entry) for entry in nav]


def on_config(config: Any) -> Any:
    """What mkdocs calls with its settings."""
    config.nav = expanded(config.nav, list(pages()))
    return config


def main() -> None:
    """Writes the folder anew."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for name, text in pages().items():
        file = SOURCE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "docs/pictures", SOURCE / "pictures")


if __name__ == "__main__":
    main()
