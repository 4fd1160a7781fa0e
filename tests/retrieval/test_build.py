"""Making an index: the same bytes from the same documents, whole or not at all, and nothing of others overwritten."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from shuyuan.errors import DataError, RunError, ShuyuanError, VaultError
from shuyuan.progress import Progress
from shuyuan.retrieval import Columns, Index, Wish, build_index, folder
from shuyuan.runs import Run
from shuyuan.vault import open_store, write_key_file
from tests.vault.tampering import snapshot

from .parts import FAQ_ZH, PAIRS, documents_index, pairs_index, write_documents, write_pairs


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    source = write_documents(tmp_path / "docs")
    files = [str(source / name) for name in ("报销.txt", "leave.md", "deep/machines.txt")]
    build_index([str(source)], tmp_path / "a")
    build_index(files, tmp_path / "b")
    build_index(files[::-1], tmp_path / "c")
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b") == snapshot(tmp_path / "c")


def test_the_same_pairs_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_pairs(tmp_path / "1.csv"), write_pairs(tmp_path / "2.csv", FAQ_ZH)
    columns = Columns("question", "answer")
    build_index([str(first), str(second)], tmp_path / "a", columns=columns)
    build_index([str(second), str(first)], tmp_path / "b", columns=columns)
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_what_is_there_is_left_and_what_is_old_is_replaced(tmp_path: Path) -> None:
    source = write_documents(tmp_path / "docs")
    build_index([str(source)], tmp_path / "i")
    texts = tmp_path / "i" / folder.TEXTS
    before = texts.stat().st_ino
    build_index([str(source)], tmp_path / "i")
    assert texts.stat().st_ino == before
    (source / "new.txt").write_text("The canteen opens at noon.")
    assert build_index([str(source)], tmp_path / "i")["documents"] == 4
    assert Index(tmp_path / "i").search("canteen")[0].text == "The canteen opens at noon."


def test_another_wish_makes_the_index_anew(tmp_path: Path) -> None:
    pairs_index(tmp_path, wish=Wish(coverage=0.5))
    half = Index(tmp_path / "index").matching
    pairs_index(tmp_path, wish=Wish(coverage=0.9))
    most = Index(tmp_path / "index").matching
    assert half and most and half.threshold > most.threshold


def test_a_damaged_index_is_mended_by_making_it_again(tmp_path: Path) -> None:
    documents_index(tmp_path)
    whole = snapshot(tmp_path / "index")
    (tmp_path / "index" / folder.MANIFEST).write_text("{}")
    build_index([str(tmp_path / "docs")], tmp_path / "index")
    assert snapshot(tmp_path / "index") == whole


@pytest.mark.parametrize("name", ["notes.txt", "recipe.toml"])
def test_a_folder_with_something_else_is_refused(tmp_path: Path, name: str) -> None:
    source = write_documents(tmp_path / "docs")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / name).write_text("precious")
    with pytest.raises(RunError) as caught:
        build_index([str(source)], tmp_path / "full")
    assert caught.value.code == "retrieval.folder-in-use"
    assert [file.name for file in (tmp_path / "full").iterdir()] == [name]


def test_a_file_of_that_name_is_refused(tmp_path: Path) -> None:
    source = write_documents(tmp_path / "docs")
    with pytest.raises(RunError) as caught:
        build_index([str(source)], source / "leave.md")
    assert caught.value.code == "retrieval.not-a-folder"


@pytest.mark.parametrize(
    ("text", "code"), [("…!?\n", "retrieval.no-words"), (" \n", "retrieval.no-words"), ("", "data.empty")]
)
def test_nothing_is_left_where_nothing_came_of_it(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError) as caught:
        build_index([str(tmp_path / "a.txt")], tmp_path / "i")
    assert caught.value.code == code
    assert not (tmp_path / "i").exists()


def test_an_interrupted_one_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents_index(tmp_path)
    whole = snapshot(tmp_path / "index")
    (tmp_path / "docs/new.txt").write_text("new")

    def breaks(*_: Any, **__: Any) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "_json", breaks)
    with pytest.raises(KeyboardInterrupt):
        build_index([str(tmp_path / "docs")], tmp_path / "index")
    assert snapshot(tmp_path / "index") == whole


@pytest.mark.parametrize("left", ["vault", "partial", "mark"])
def test_what_a_kill_at_the_beginning_leaves_is_gone_on_with(tmp_path: Path, left: str) -> None:
    source, index = write_documents(tmp_path / "docs"), tmp_path / "i"
    key = f"file:{write_key_file(tmp_path / 'key')}" if left == "vault" else None
    index.mkdir()
    if left == "vault":
        open_store(Run(index), key, create=True).close()
    else:
        (index / (folder.MARK + ".partial" * (left == "partial"))).write_text("{}")
    build_index([str(source)], index, key=key)
    assert Index(index, key).search("leave")
    assert not list(index.rglob("*.partial"))


def test_two_at_once_are_told(tmp_path: Path) -> None:
    source = write_documents(tmp_path / "docs")
    with Run(tmp_path / "i").lock("index"), pytest.raises(RunError) as caught:
        build_index([str(source)], tmp_path / "i")
    assert caught.value.code == "run.locked"


def test_an_open_index_says_so_and_what_was_left_out(tmp_path: Path) -> None:
    source = write_documents(tmp_path / "docs")
    (source / "picture.bin").write_bytes(bytes(1000))
    progress = Progress()
    made = build_index([str(source)], tmp_path / "i", progress=progress)
    assert progress.said.keys() == {"vault.open", "data.skipped"}
    assert made["left_out"] == {"binary files": 1} and made["sealed"] is False
    key = f"file:{write_key_file(tmp_path / 'key')}"
    progress = Progress()
    assert build_index([str(source)], tmp_path / "s", key=key, progress=progress)["sealed"] is True
    assert progress.said.keys() == {"data.skipped"}


def test_a_wish_without_answers_is_refused(tmp_path: Path) -> None:
    source = write_documents(tmp_path / "docs")
    with pytest.raises(DataError) as caught:
        build_index([str(source)], tmp_path / "i", wish=Wish(coverage=0.9))
    assert caught.value.code == "retrieval.no-answers"


def test_a_wish_that_cannot_be_foreseen_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        pairs_index(tmp_path, FAQ_ZH, Wish(accuracy=0.9))
    assert caught.value.code == "retrieval.not-calibrated"
    assert len(PAIRS) == 60


# ---- what was made by others or is broken -----------------------------------------------------------------------------


def refusal(path: Path) -> ShuyuanError:
    with pytest.raises(ShuyuanError) as caught:
        Index(path).search("leave")
    assert caught.value.mend
    return caught.value


def test_of_another_version(tmp_path: Path) -> None:
    documents_index(tmp_path)
    file = tmp_path / "index" / folder.MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    assert refusal(tmp_path / "index").code == "retrieval.other-format"


def test_no_index(tmp_path: Path) -> None:
    assert refusal(tmp_path).code == refusal(tmp_path / "nowhere").code == "retrieval.not-an-index"
    (tmp_path / folder.MARK).write_text("{}")
    assert refusal(tmp_path).code == "retrieval.not-an-index"


@pytest.mark.parametrize(
    "name", ["manifest.json", "arrays.safetensors", "words.json", "documents.json", "texts.utf8"]
)
def test_a_file_that_is_cut_changed_or_gone(tmp_path: Path, name: str) -> None:
    documents_index(tmp_path)
    file = tmp_path / "index" / folder.FOLDER / name
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"[" * 9999, None):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        error = refusal(tmp_path / "index")
        assert name in (error.where or "") or error.code == "retrieval.not-an-index", content
        file.write_bytes(whole)


def test_an_open_index_takes_no_key_and_a_sealed_one_wants_it(tmp_path: Path) -> None:
    documents_index(tmp_path)
    key = f"file:{write_key_file(tmp_path / 'key')}"
    with pytest.raises(VaultError, match=r"vault\.not-sealed"):
        Index(tmp_path / "index", key)
    shutil.rmtree(tmp_path / "index")
    build_index([str(tmp_path / "docs")], tmp_path / "index", key=key)
    with pytest.raises(VaultError, match=r"vault\.sealed"):
        Index(tmp_path / "index")
    with pytest.raises(VaultError, match=r"vault\.sealed"):
        build_index([str(tmp_path / "docs")], tmp_path / "index")
    assert Index(tmp_path / "index", key).search("leave")
