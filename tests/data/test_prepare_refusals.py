"""What cannot be prepared is refused with its place and its mend, and leaves nothing behind."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from shuyuan.data import (
    prepare,
    survey,
)
from shuyuan.errors import DataError
from shuyuan.progress import Progress
from shuyuan.vault import OpenStore
from tests.data.parts import (
    WORDS,
    Listener,
    jsonl,
    lines,
    prepared,
    recipe_of,
    records_in,
    refused,
    sentences,
)


def test_no_such_column_names_those_there_are(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"body": "x", "who": "y"}])
    error = refused(tmp_path / "run", recipe_of(source))
    assert error.code == "data.no-column"
    assert error.where == f"{source}:1"
    assert "body" in error.mend
    source = jsonl(tmp_path / "b.jsonl", [{"text": text} for text in sentences(50)])
    error = refused(tmp_path / "run", recipe_of(source, owner="who"))
    assert error.code == "data.no-column"
    assert "text" in error.mend


def test_bad_values_name_their_line(tmp_path: Path) -> None:
    good = [{"text": text, "who": 1} for text in sentences(50)]
    source = jsonl(tmp_path / "a.jsonl", [*good, {"text": 5, "who": 1}])
    assert refused(tmp_path / "run", recipe_of(source)).where == f"{source}:51"
    for empty in ("", None, "  ", float("nan")):
        source = jsonl(tmp_path / "a.jsonl", [*good, {"text": "x", "who": empty}])
        error = refused(tmp_path / "run", recipe_of(source, owner="who"))
        assert (error.code, error.where) == ("data.no-owner", f"{source}:51")
    for several in (["1", "2"], {"name": 1}):
        source = jsonl(tmp_path / "a.jsonl", [*good, {"text": "x", "who": several}])
        error = refused(tmp_path / "run", recipe_of(source, owner="who"))
        assert (error.code, error.where) == ("data.not-one-owner", f"{source}:51")


def test_one_owner_with_everything_is_told_why_nothing_is_held_out(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", [{"text": text, "who": "x"} for text in sentences(80)])
    error = refused(tmp_path / "run", recipe_of(source, owner="who"))
    assert error.code == "data.too-little"
    assert "An owner is in one split alone, and there is 1." in error.what


def test_records_without_text_are_left_out(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": text} for text in sentences(100)]
    source = jsonl(
        tmp_path / "a.jsonl", [*rows, {"text": None}, {"text": ""}, {"text": "\x00\n"}, {"text": "x" * 2000}]
    )
    manifest, _ = prepared(tmp_path / "run", recipe_of(source, max_chars=1000))
    assert manifest.skipped == {
        "records without text": 1,
        "empty records": 2,
        "records over 1,000 characters": 1,
    }


@pytest.mark.parametrize(
    ("texts", "settings", "where"),
    [
        (["only one record, however long it may be, cannot be split in two"], {}, "data.validation"),
        (["short"] * 3, {}, "data.source"),
        (sentences(3), {"validation": 0.01}, "data.validation"),
        (sentences(100), {"test": 0.0001}, "data.test"),
    ],
)
def test_too_little(tmp_path: Path, texts: list[str], settings: dict[str, Any], where: str) -> None:
    source = lines(tmp_path / "a.txt", texts)
    error = refused(tmp_path / "run", recipe_of(source, record="line", **settings))
    assert error.code == "data.too-little"
    assert error.where == where


def test_too_little_for_one_window_only_after_encoding(tmp_path: Path) -> None:
    """Bytes enough for a window, tokens too few: found at the end, and still nothing is left behind."""
    source = lines(tmp_path / "a.txt", sentences(2000))
    held_out = lines(tmp_path / "v.txt", [f"{WORDS[0]} " * 40] * 12)
    recipe = recipe_of(source, "bpe", record="line", validation=str(held_out), tokens={"vocab_size": 400})
    error = refused(tmp_path / "run", recipe.replace(**{"model.context": 2000}))
    assert error.code == "data.too-little"
    assert "at most" not in error.what


def test_nothing_there_or_nothing_in_it(tmp_path: Path) -> None:
    assert refused(tmp_path / "run", recipe_of(tmp_path / "none.txt")).code == "data.missing"
    (tmp_path / "a.txt").write_text("\n \n\t\n")
    error = refused(tmp_path / "run", recipe_of(tmp_path / "a.txt", record="line"))
    assert error.code == "data.empty"
    assert "3 empty records" in error.what


def test_a_single_text_has_no_owners(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.txt", sentences(100))
    assert refused(tmp_path / "run", recipe_of(source, owner="file")).code == "data.one-text-no-owners"
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(20):
        lines(folder / f"{number}.txt", sentences(20, seed=number))
    manifest, _ = prepared(tmp_path / "lines", recipe_of(folder, record="line", owner="file", validation=0.3))
    assert manifest.splits["train"].owners + manifest.splits["validation"].owners == 20


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.txt", sentences(50))
    assert refused(tmp_path / "run", recipe_of(source, validation=str(source))).code == "data.same-file"


def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "HELD_BYTES", 0)
    for end in ("one more\n", "", "same length"):
        source = lines(tmp_path / "a.txt", sentences(100))
        content = source.read_text()

        class Writing(Listener):
            def stage(self, name: str, total: float | None, unit: str) -> Any:  # type: ignore[override]
                if name == "write shards":
                    source.write_text(content.upper() if end == "same length" else content[:-200] + end)  # noqa: B023
                return super().stage(name, total, unit)

        store = OpenStore(tmp_path / "run")
        with pytest.raises(DataError, match=r"data\.changed-meanwhile"):
            prepare(recipe_of(source, record="line"), store, Writing())
        assert store.names() == []


def test_a_hub_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no dates to compare, so the records themselves must be as many and as long as before."""
    monkeypatch.setattr(survey, "HELD_BYTES", 0)
    texts = sentences(100)
    for later in (texts, texts[:-1], [*texts, "more"], [*texts[:-1], "shorter"]):
        passes = iter([texts, later])

        class Rows(list[Any]):
            column_names = None

        fake: Any = types.ModuleType("datasets")
        fake.load_dataset = lambda name, split, streaming: Rows({"text": text} for text in next(passes))  # noqa: B023
        monkeypatch.setitem(sys.modules, "datasets", fake)
        store = OpenStore(tmp_path / "run")
        if later is texts:
            assert prepare(recipe_of("hf:org/name"), store, Progress()).records == 100
            store.remove("data")
        else:
            with pytest.raises(DataError, match=r"data\.changed-meanwhile"):
                prepare(recipe_of("hf:org/name"), store, Progress())


def test_an_interrupted_preparation_leaves_nothing_and_begins_again(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.txt", sentences(100))
    recipe = recipe_of(source, record="line")

    class Broken(Listener):
        def stage(self, name: str, total: float | None, unit: str) -> Any:  # type: ignore[override]
            if name == "write shards":
                raise KeyboardInterrupt
            return super().stage(name, total, unit)

    store = OpenStore(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        prepare(recipe, store, Broken())
    assert store.names() == []
    store.write("data/train-00099.shard", b"left by a kill")
    manifest = prepare(recipe, store, Progress())
    assert store.exists("data/manifest.json")
    assert not store.exists("data/train-00099.shard")
    assert set(records_in(store, manifest, "train")) < set(sentences(100))
