"""The built-in source `packages`: beginnings of installed source files, owned by their folders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from shuyuan.data.sources import Wanted, open_source, packages
from shuyuan.errors import DataError


def test_many_owners_and_short_records() -> None:
    source = open_source("packages", Wanted("text", ("text",)))
    rows = list(source.rows(Counter()))
    assert source.owner == "folder"
    assert len(rows) > 500
    assert len({row.values["folder"] for row in rows}) > 50
    assert max(len(row.values["text"]) for row in rows) == packages.BEGINNING
    assert not [row.where for row in rows if "/tests/" in row.where]
    again = open_source("packages", Wanted("text", ("text",)))
    assert again.facts() == source.facts()
    assert next(again.rows(Counter())) == rows[0]


def test_a_file_that_is_cut_inside_a_character_and_one_of_another_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(DataError, match="source text"):
        open_source("packages", Wanted("text", ("text",)))
    (tmp_path / "one").mkdir()
    (tmp_path / "one/long.py").write_text("书" * 9000, encoding="utf-8")
    (tmp_path / "one/old.py").write_bytes("# caf\u00e9".encode("latin-1"))
    skipped: Counter[str] = Counter()
    rows = list(open_source("packages", Wanted("text", ("text",))).rows(skipped))
    assert [row.values for row in rows] == [{"text": "书" * packages.BEGINNING, "folder": "one"}]
    assert skipped == {"files that are not UTF-8": 1}
