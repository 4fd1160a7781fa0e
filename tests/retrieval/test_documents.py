"""What becomes a document, how it is called, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from shuyuan.errors import DataError
from shuyuan.progress import Progress
from shuyuan.retrieval import Columns
from shuyuan.retrieval.documents import Document, read_documents

from .parts import LEAVE, write_documents, write_squad


def read(*sources: Path, text: str = "text", answer: str | None = None) -> list[Document]:
    return read_documents([str(source) for source in sources], Columns(text, answer), Progress())[0]


def refusal(*sources: Path, **columns: str) -> DataError:
    with pytest.raises(DataError) as caught:
        read(*sources, **columns)
    assert caught.value.mend and caught.value.where
    return caught.value


def test_a_folder(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "docs")
    (folder / "picture.bin").write_bytes(bytes(1000))
    (folder / "empty.txt").write_text("")
    (folder / "blank.txt").write_text(" \n")
    documents, skipped = read_documents([str(folder)], Columns(), Progress())
    assert [document.name for document in documents] == [
        str(folder / name) for name in ("deep/machines.txt", "leave.md", "报销.txt")
    ]
    assert documents[1] == Document(str(folder / "leave.md"), LEAVE, 1, True)
    assert skipped == {"binary files": 1, "empty files": 1, "records without text": 1}


def test_the_order_of_sources_does_not_matter(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "docs")
    files = [folder / "报销.txt", folder / "leave.md", folder / "deep/machines.txt"]
    assert read(*files) == read(*reversed(files)) == read(folder)
    assert read(folder, folder / "leave.md") == read(folder)


def test_rows_of_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,n\none,1\n"two\nlines",2\n')
    (tmp_path / "b.jsonl").write_text('{"text": "three"}\n\n{"text": null}\n{"text": 4}\n')
    with gzip.open(tmp_path / "c.tsv.gz", "wt") as out:
        out.write("text\nfive\n")
    found = [(document.name, document.text, document.line) for document in read(tmp_path)]
    assert found == [
        (f"{tmp_path}/a.csv:2", "one", 2),
        (f"{tmp_path}/a.csv:4", "two\nlines", 4),
        (f"{tmp_path}/b.jsonl:1", "three", 1),
        (f"{tmp_path}/b.jsonl:4", "4", 4),
        (f"{tmp_path}/c.tsv.gz:2", "five", 2),
    ]


def test_a_table_with_a_column_called_file_has_rows_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one", "file": "x"}\n')
    assert read(tmp_path / "a.jsonl") == [Document(f"{tmp_path}/a.jsonl:1", "one", 1, False)]


def test_squad(tmp_path: Path) -> None:
    file = write_squad(tmp_path / "a.json", ["first", "第二段"])
    found = [(document.name, document.text) for document in read(file)]
    assert found == [(f"{file}:1#1", "first"), (f"{file}:1#2", "第二段")]


def test_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q,a\nhow?,so\nwhy?,\n,because\n")
    found = read(tmp_path / "a.csv", text="q", answer="a")
    assert [(document.text, document.answer) for document in found] == [("how?", "so")]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"body": "x"}, "data.no-column"),
        ({"text": ["x"]}, "data.not-text"),
        ({"paragraphs": [{"text": "x"}]}, "data.bad-squad"),
        ({"paragraphs": ["x"]}, "data.bad-squad"),
        ({"paragraphs": [{"context": 3}]}, "data.bad-squad"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], code: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": "fine"}) + "\n" + json.dumps(row) + "\n")
    error = refusal(file)
    assert (error.code, error.where) == (code, f"{file}:2")


def test_columns_there_are_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("frage,antwort\nx,y\n")
    assert "frage, antwort" in refusal(tmp_path / "a.csv").mend


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.txt", bytes(1000), "data.binary"),
        ("a.txt", "您好".encode("gb18030"), "data.not-utf8"),
        ("a.jsonl", b"{", "data.bad-json"),
        ("a.txt", b"", "data.empty"),
        (None, b"", "data.missing"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str | None, content: bytes, code: str) -> None:
    if name:
        (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / (name or "nothing.txt")).code == code


def test_an_empty_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path).code == "data.empty"
