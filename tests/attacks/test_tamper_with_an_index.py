"""Exploit: change, cut, swap or read a sealed index, or feed an open one with numbers that point outside of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from shuyuan import retrieval
from shuyuan.errors import DataError, RunError, ShuyuanError, VaultError
from shuyuan.retrieval import Index, build_index, folder
from shuyuan.vault import write_key_file
from tests.retrieval.parts import LEAVE, PAIRS, documents_index, write_documents, write_pairs
from tests.vault.tampering import snapshot

SECRETS = ("Chen", "exceptions", "发票", "leave.md", "password", "porter")


@pytest.fixture
def key(tmp_path: Path) -> str:
    return f"file:{write_key_file(tmp_path / 'keys/index.key')}"


@pytest.fixture
def sealed(tmp_path: Path, key: str) -> Path:
    write_documents(tmp_path / "docs")
    build_index([str(tmp_path / "docs")], tmp_path / "i", key=key)
    assert Index(tmp_path / "i", key).search("exceptions")
    return tmp_path / "i"


def files_of(index: Path) -> list[Path]:
    return [file for file in sorted(index.rglob("*")) if file.is_file() and file.name != ".lock"]


def named(index: Path, key: str) -> list[str]:
    """Which files verify names."""
    return [problem["file"] for problem in retrieval.verify_index(index, key)["problems"]]


def test_no_word_of_a_document_is_outside_of_the_seals(sealed: Path, tmp_path: Path, key: str) -> None:
    pairs = write_pairs(tmp_path / "faq.csv", PAIRS)
    columns = retrieval.Columns("question", "answer")
    build_index([str(pairs)], tmp_path / "p", columns=columns, key=key)
    for index in (sealed, tmp_path / "p"):
        for file in files_of(index):
            content = file.read_bytes() + file.name.encode()
            assert not [word for word in SECRETS if word.encode() in content], file
    assert "Chen" in LEAVE  # so that the search could find it


def test_a_bit_of_every_file(sealed: Path, key: str) -> None:
    for file in files_of(sealed):
        whole, name = file.read_bytes(), file.relative_to(sealed).as_posix()
        for at in (0, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            if name == "vault.json":
                with pytest.raises(VaultError):
                    named(sealed, key)
            else:
                assert named(sealed, key) == [name]
            with pytest.raises(VaultError) as caught:
                Index(sealed, key).search("exceptions")
            assert name == "vault.json" or file.name in (caught.value.where or "")
        file.write_bytes(whole)
    assert named(sealed, key) == []


def test_every_file_cut_or_gone(sealed: Path, key: str) -> None:
    for file in files_of(sealed):
        whole, name = file.read_bytes(), file.relative_to(sealed).as_posix()
        for content in (whole[:-1], b"", None):
            file.unlink()
            if content is not None:
                file.write_bytes(content)
            with pytest.raises((VaultError, RunError)) as caught:
                Index(sealed, key).search("exceptions")
            assert caught.value.mend
            if name != "vault.json":
                assert file.name in (caught.value.where or ""), (name, caught.value)
                assert named(sealed, key) == [name]
            file.write_bytes(whole)


def test_two_files_swapped(sealed: Path, key: str) -> None:
    first, second = files_of(sealed / "index")[:2]
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two), second.write_bytes(one)
    with pytest.raises(VaultError):
        Index(sealed, key).search("exceptions")
    assert set(named(sealed, key)) == {f"index/{first.name}", f"index/{second.name}"}


def test_an_older_index_put_back(sealed: Path, key: str, tmp_path: Path) -> None:
    before = snapshot(sealed)
    head = retrieval.verify_index(sealed, key)["head"]
    (tmp_path / "docs/new.txt").write_text("The canteen opens at noon.")
    build_index([str(tmp_path / "docs")], sealed, key=key)
    now = retrieval.verify_index(sealed, key)["head"]
    assert head != now and retrieval.verify_index(sealed, key, head)["ok"]
    shutil.rmtree(sealed)
    for name, content in before.items():
        (sealed / name).parent.mkdir(parents=True, exist_ok=True)
        (sealed / name).write_bytes(content)
    assert named(sealed, key) == []  # a whole folder is told by its head alone
    assert not retrieval.verify_index(sealed, key, now)["ok"]


def test_another_key(sealed: Path, tmp_path: Path) -> None:
    other = f"file:{write_key_file(tmp_path / 'keys/other.key')}"
    with pytest.raises(VaultError, match=r"vault\.wrong-key"):
        Index(sealed, other)


def test_a_sealed_index_made_open_by_hand(sealed: Path, tmp_path: Path, key: str) -> None:
    """Whoever takes the vault away cannot have an index of their own believed."""
    build_index([str(tmp_path / "docs")], tmp_path / "open")
    shutil.rmtree(sealed)
    shutil.copytree(tmp_path / "open", sealed)
    with pytest.raises(VaultError, match=r"vault\.not-sealed"):
        Index(sealed, key)


# ---- an open index that means harm ------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], None]


CHANGES: dict[str, Change] = {
    "a passage that is not there": lambda a: a["holders"].__setitem__(0, 99),
    "a passage below zero": lambda a: a["holders"].__setitem__(0, -1),
    "a term that ends before it begins": lambda a: a["starts"].__setitem__(1, 10**9),
    "a document that is not there": lambda a: a["document"].__setitem__(0, 7),
    "an answer that is not there": lambda a: a["answer"].__setitem__(0, 0),
    "bytes behind the end": lambda a: a["bytes"].__setitem__(-1, 10**12),
    "no number at all": lambda a: a["weights"].__setitem__(0, np.nan),
    "an array too short": lambda a: a.update(line=a["line"][:-1]),
    "an array too many": lambda a: a.update(more=a["line"]),
    "an array too few": lambda a: a.pop("line"),
    "another type": lambda a: a.update(line=a["line"].astype(np.int64)),
    "another shape": lambda a: a.update(weights=a["weights"].reshape(1, -1)),
    "nothing": lambda a: a.update({name: array[:0] for name, array in a.items()}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_numbers_that_point_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    documents_index(tmp_path)
    file = tmp_path / "index" / folder.FOLDER / "arrays.safetensors"
    arrays = {name: array.copy() for name, array in load(file.read_bytes()).items()}
    change(arrays)
    file.write_bytes(save(arrays))
    monkeypatch.setattr(
        folder, "_digest", lambda data: "x"
    )  # whoever changes an open index changes its digests too
    manifest = tmp_path / "index" / folder.MANIFEST
    manifest.write_text(_with_digests(manifest.read_text()))
    with pytest.raises(DataError) as caught:
        Index(tmp_path / "index").search("leave")
    assert caught.value.code == "retrieval.damaged" and file.name in (caught.value.where or "")


def _with_digests(manifest: str) -> str:
    return re.sub(r'"sha256": "[0-9a-f]+"', '"sha256": "x"', manifest)


@pytest.mark.parametrize(
    "content", ["[]", "null", "3", '{"format": 1}', '{"format": 1, "files": 3}', "[" * 9999, "{", ""]
)
def test_a_manifest_of_nonsense(tmp_path: Path, content: str) -> None:
    documents_index(tmp_path)
    (tmp_path / "index" / folder.MANIFEST).write_text(content)
    with pytest.raises(ShuyuanError) as caught:
        Index(tmp_path / "index")
    assert caught.value.code == "retrieval.damaged"
    assert not retrieval.verify_index(tmp_path / "index", None)["ok"]
