"""The documents that are written by hand: what they name is there."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/shuyuan"
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
WITHOUT_A_ROOM = {"__main__", "version"}


def picture() -> list[str]:
    found = re.search(r"```text\n(.*?)```", ARCHITECTURE, re.DOTALL)
    assert found
    return found[1].splitlines()


def test_every_file_that_the_architecture_names_is_there() -> None:
    named = set(re.findall(r"`([a-z_/]+\.py)`", ARCHITECTURE))
    assert len(named) > 50
    assert sorted(name for name in named if not (SOURCE / name).is_file()) == []


def test_the_picture_shows_every_room_of_the_import_contract_and_no_other() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rooms = {layer.removeprefix("shuyuan.") for layer in contracts[0]["layers"]} - WITHOUT_A_ROOM
    shown = re.findall(r"\b([a-z]+)(?:/|\.py)", "\n".join(picture()))
    assert sorted(shown) == sorted(rooms)


def test_the_picture_fits_a_terminal() -> None:
    assert all(len(line) <= 80 and line.isascii() for line in picture())


def test_the_readmes_of_both_languages_show_the_same() -> None:
    """The same commands, extras and pages; what is said of them may differ."""
    shown = []
    for name in ("README.md", "README.zh-CN.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        commands = {tuple(line.split()[:2]) for line in "".join(blocks).splitlines()}
        pages = set(re.findall(r"\((docs/[\w./-]+|[A-Z]+\.md)\)", text)) - {"README.md"}
        extras = set(re.findall(r"shuyuan\[(\w+)\]", text)) | set(re.findall(r"`(\w+)`(?= ?[(（、,])", text))
        shown.append((commands, pages, extras))
    assert len(shown[0][0]) >= 10 and len(shown[0][1]) > 25
    assert shown[0] == shown[1]


def test_the_citation_has_the_version_and_licence_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in citation
    assert f"\nlicense: {project['license']}\n" in citation
    assert project["authors"] == [{"name": "The Shuyuan maintainers"}]
    assert "- name: The Shuyuan maintainers\n" in citation


def test_reports_of_weaknesses_go_to_the_private_form_and_to_no_address() -> None:
    security = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "Report a vulnerability" in security
    papers = [ROOT / name for name in ("SECURITY.md", "CODE_OF_CONDUCT.md", "CITATION.cff")]
    papers += (ROOT / ".github").rglob("*.*")
    assert len(papers) == 7
    assert [file.name for file in papers if "@" in file.read_text(encoding="utf-8")] == []


def test_a_file_of_more_than_600_lines_says_why() -> None:
    long = [file for file in SOURCE.rglob("*.py") if len(file.read_text(encoding="utf-8").splitlines()) > 600]
    silent = [
        file.name
        for file in long
        if "Long because" not in (ast.get_docstring(ast.parse(file.read_bytes())) or "")
    ]
    assert silent == []
