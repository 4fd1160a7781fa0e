"""The documentation site, looked at without mkdocs: every page is in the navigation, and no link leads nowhere."""

from __future__ import annotations

import importlib.util
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SETTINGS: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "scripts/docs_site.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SITE = script()
PAGES: dict[str, str] = SITE.pages()


def leaves(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    for inner in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from leaves(inner)


def test_every_page_is_in_the_navigation_once() -> None:
    shown = sorted(leaves(SITE.expanded(SETTINGS["nav"], list(PAGES))))
    assert shown == sorted(PAGES)


def test_a_folder_in_the_navigation_stands_for_its_pages() -> None:
    names = ["a/zebra.md", "a/index.md", "b.md", "a/ape.md"]
    assert SITE.expanded([{"A": "a/"}, "b.md"], names) == [
        {"A": ["a/index.md", "a/ape.md", "a/zebra.md"]},
        "b.md",
    ]


def test_a_file_that_the_site_does_not_have_is_named_without_a_link() -> None:
    assert "- `deploy/slurm.sh`: `sbatch" in PAGES["cluster.md"]


def slugs(text: str) -> set[str]:
    """The anchors of a page's headings, as the site makes them."""
    headings = re.findall(r"^#+ (.+)$", SITE.FENCED_BLOCK.sub("", text), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in plain}


@pytest.mark.parametrize("name", sorted(PAGES))
def test_no_link_of_a_page_is_dead(name: str) -> None:
    for target, anchor in re.findall(
        r"\]\(([^)\s#:]*)(?:#([^)\s]*))?\)", SITE.FENCED_BLOCK.sub("", PAGES[name])
    ):
        place = posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) if target else name
        there = place in PAGES or (ROOT / "docs" / place).is_file()
        assert there, f"{name} links to {target}"
        assert not anchor or anchor in slugs(PAGES[place]), f"{name} links to {target}#{anchor}"


def test_the_site_asks_no_other_host() -> None:
    assert SETTINGS["theme"]["font"] is False
    assert not SETTINGS.keys() & {"extra_javascript", "extra_css", "repo_url"}
    assert "analytics" not in SETTINGS["extra"]
    assert not [name for name, text in PAGES.items() if "```mermaid" in text]  # the theme fetches its library
    pictures = re.compile(r"!\[[^\]]*\]\(https?:|<(?:img|script|iframe|link)\b")
    loading = [name for name, text in PAGES.items() if pictures.search(SITE.FENCED_BLOCK.sub("", text))]
    assert loading == []
