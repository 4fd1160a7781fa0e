"""The built-in source: enough real documents on every Python, the same each time, nothing imported."""

from __future__ import annotations

import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from shuyuan.data.records import open_records
from shuyuan.data.sources import Wanted, open_source
from shuyuan.data.sources.base import Row
from shuyuan.data.split import TRAIN, VALIDATION
from shuyuan.errors import DataError
from shuyuan.recipe import from_table


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    skipped: Counter[str] = Counter()
    before = set(sys.modules)
    found = list(open_source("stdlib", Wanted("text", ("text",))).rows(skipped))
    assert not {name for name in set(sys.modules) - before if not name.startswith(("shuyuan", "encodings"))}
    assert sum(skipped.values()) < 10
    return found


def test_thousands_of_documents_without_the_test_suite(rows: list[Row]) -> None:
    assert len(rows) >= 2000
    assert not [row.where for row in rows if "/test/" in row.where or "site-packages" in row.where]


def test_each_kind_of_document_is_there(rows: list[Row]) -> None:
    by_owner: dict[str, list[str]] = {}
    for row in rows:
        by_owner.setdefault(row.values["module"], []).append(row.values["text"])
    json_texts = by_owner["json"]
    assert any(
        text.startswith("json.dumps(obj, *, skipkeys=False") and "Serialize" in text for text in json_texts
    )
    assert any(text.startswith("class json.decoder.JSONDecoder") for text in json_texts)
    assert any(text.startswith("module json\n") for text in json_texts)
    assert any("def dumps(" in text for text in json_texts)
    assert any("while" in text for text in by_owner["topics:while"])
    assert len([owner for owner in by_owner if owner.startswith("topics:")]) > 50


def test_the_order_is_fixed_and_the_owner_is_the_module(rows: list[Row]) -> None:
    source = open_source("stdlib", Wanted("text", ("text",)))
    assert source.owner == "module"
    again = source.rows(Counter())
    assert [next(again) for _ in range(300)] == rows[:300]
    assert source.facts() == open_source("stdlib", Wanted("text", ("text",))).facts()


def test_bad_files_are_counted_and_no_file_at_all_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(DataError, match=r"data\.no-stdlib"):
        open_source("stdlib", Wanted("text", ("text",)))
    (tmp_path / "good.py").write_text('"""About it."""\n\ndef one(a, *, b=1) -> int:\n    """Docs."""\n')
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"))
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "nul.py").write_bytes(b"x = 1\0")
    (tmp_path / "test").mkdir()
    (tmp_path / "test/left_out.py").write_text("x = 1")
    skipped: Counter[str] = Counter()
    found = [row.values["text"] for row in open_source("stdlib", Wanted("text", ("text",))).rows(skipped)]
    assert found[1:] == ["module good\n\nAbout it.\n", "good.one(a, *, b=1) -> int\n\nDocs.\n"]
    assert skipped == {"files that are not Python in UTF-8": 3}


def test_its_owner_column_is_not_asked_of_a_separate_validation_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "small.py").write_text('"""A module."""\nx = 1\n')
    (tmp_path / "held_out.md").write_text("A page.\n")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(library))
    table = {"data": {"source": "stdlib", "validation": str(tmp_path / "held_out.md")}}
    records = list(open_records(from_table(table)).each(Counter()))
    assert {record.owner for record in records if record.part == VALIDATION} == {None}
    assert b"small" in {record.owner for record in records if record.part == TRAIN}
