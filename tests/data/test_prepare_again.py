"""Preparing again does nothing, and whatever way it goes gives the same; a source or settings that changed are refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from shuyuan import vault
from shuyuan.data import (
    Windows,
    load_manifest,
    prepare,
    survey,
    writers,
    writing,
)
from shuyuan.data.manifest import Manifest
from shuyuan.errors import DataError
from shuyuan.progress import Progress
from shuyuan.runs import Run
from tests.data.parts import Listener, jsonl, lines, prepared, recipe_of, sentences


def contents(manifest: Manifest) -> Any:
    return {
        name: [(shard.name, shard.tokens, shard.records) for shard in split.shards]
        for name, split in manifest.splits.items()
    }


def tokens_of(store: vault.Store, manifest: Manifest) -> dict[str, list[int]]:
    found = {}
    for split in manifest.splits:
        windows = Windows(store, manifest, split, 32)
        found[split] = [token for _, targets in windows.in_order(8) for token in targets.ravel().tolist()]
    return found


def test_preparing_again_does_nothing(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.txt", sentences(200))
    recipe = recipe_of(source, record="line")
    manifest, store = prepared(tmp_path / "run", recipe)
    before = {name: (store.path / name).stat().st_mtime_ns for name in store.names()}
    listener = Listener()
    assert prepare(recipe, store, listener) == manifest
    assert {name: (store.path / name).stat().st_mtime_ns for name in store.names()} == before
    assert listener.stages == []


def test_a_new_date_alone_changes_nothing(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.txt", sentences(200))
    recipe = recipe_of(source, record="line")
    manifest, store = prepared(tmp_path / "run", recipe)
    os.utime(source, ns=(1, 1))
    again = prepare(recipe, store, Progress())
    assert again.splits == manifest.splits
    assert again.source[0].modified_ns == 1
    assert load_manifest(store) == again


def test_a_changed_source_is_refused_and_a_missing_one_is_not(tmp_path: Path) -> None:
    texts = sentences(200)
    source = lines(tmp_path / "a.txt", texts)
    recipe = recipe_of(source, record="line")
    manifest, store = prepared(tmp_path / "run", recipe)
    source.write_text(source.read_text().replace(texts[7], texts[7][::-1]))
    with pytest.raises(DataError, match=r"data\.changed") as caught:
        prepare(recipe, store, Progress())
    assert caught.value.where == str(source)
    assert load_manifest(store) == manifest
    source.unlink()
    listener = Listener()
    assert prepare(recipe, store, listener) == manifest
    assert "data.source-gone" in listener.said


def test_other_settings_are_refused(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.txt", sentences(200))
    _, store = prepared(tmp_path / "run", recipe_of(source, record="line"))
    for changed in (
        recipe_of(source, record="line", min_chars=2),
        recipe_of(source, "char", record="line"),
        recipe_of(source, record="line", seed=2),
    ):
        with pytest.raises(DataError, match=r"data\.other-settings"):
            prepare(changed, store, Progress())


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_a_sealed_run_holds_the_same_tokens(tmp_path: Path, tokenizer: str) -> None:
    texts = [f"{text} Zyzzogeton" for text in sentences(200)]
    recipe = recipe_of(lines(tmp_path / "a.txt", texts), tokenizer, record="line", tokens={"vocab_size": 300})
    manifest, store = prepared(tmp_path / "open", recipe)
    key = f"file:{vault.write_key_file(tmp_path / 'keys' / 'test.key')}"
    with vault.open_store(Run(tmp_path / "sealed"), key, create=True) as sealed:
        other = prepare(recipe, sealed, Progress())
        assert contents(other) == contents(manifest)
        assert tokens_of(sealed, other) == tokens_of(store, manifest)
        assert sealed.read("data/tokenizer.json") == store.read("data/tokenizer.json")
        assert other.fingerprint != manifest.fingerprint
        assert prepare(recipe, sealed, Progress()) == other
    for file in (tmp_path / "sealed").rglob("*"):
        if file.is_file():
            assert b"Zyzzogeton" not in file.read_bytes()


def test_reading_twice_gives_the_same_as_holding_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lines(tmp_path / "a.txt", sentences(300))
    recipe = recipe_of(source, "bpe", record="line", tokens={"vocab_size": 300})
    manifest, _ = prepared(tmp_path / "one", recipe)
    monkeypatch.setattr(survey, "HELD_BYTES", 0)
    other, _ = prepared(tmp_path / "two", recipe)
    assert other.splits == manifest.splits
    assert other.tokenizer == manifest.tokenizer


def test_many_shards_are_one_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = lines(tmp_path / "a.txt", sentences(300))
    recipe = recipe_of(source, record="line")
    manifest, store = prepared(tmp_path / "one", recipe)
    monkeypatch.setattr(writers, "SHARD_BYTES", 1000)
    monkeypatch.setattr(writing, "_BATCH_SIZE", 300)
    other, cut = prepared(tmp_path / "two", recipe)
    assert len(other.splits["train"].shards) > 10
    assert tokens_of(cut, other) == tokens_of(store, manifest)
    assert other.splits["train"].owners == manifest.splits["train"].owners


def test_changed_owners_are_a_changed_source(tmp_path: Path) -> None:
    rows = [{"text": text, "who": number % 40} for number, text in enumerate(sentences(400))]
    source = jsonl(tmp_path / "a.jsonl", rows)
    recipe = recipe_of(source, owner="who")
    _, store = prepared(tmp_path / "run", recipe)
    jsonl(source, [{**row, "who": row["who"] + 100} for row in rows])
    with pytest.raises(DataError, match=r"data\.changed"):
        prepare(recipe, store, Progress())


def test_so_they_are_where_no_record_changes_its_split(tmp_path: Path) -> None:
    rows = [{"text": text, "who": number % 40} for number, text in enumerate(sentences(400))]
    source, held_out = jsonl(tmp_path / "a.jsonl", rows), jsonl(tmp_path / "b.jsonl", rows[:50])
    recipe = recipe_of(source, owner="who", validation=str(held_out))
    _, store = prepared(tmp_path / "run", recipe)
    jsonl(source, [{**row, "who": row["who"] + 100} for row in rows])
    with pytest.raises(DataError, match=r"data\.changed"):
        prepare(recipe, store, Progress())
