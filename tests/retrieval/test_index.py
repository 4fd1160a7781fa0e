"""Searching: what is found, and that what is cited is the very text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shuyuan
from shuyuan.errors import DataError
from shuyuan.retrieval import Index, answer, build_index

from .parts import EXPENSES, LEAVE, documents_index, write_squad


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return documents_index(tmp_path_factory.mktemp("documents"))


@pytest.mark.parametrize(
    ("question", "document"),
    [
        ("When does unused leave expire?", "leave.md"),
        ("住宿费最多多少？", "报销.txt"),
        ("How often is the press serviced?", "machines.txt"),
        ("press 多久保养一次", "machines.txt"),
        ("ＫＸ-7", "machines.txt"),
    ],
)
def test_the_right_document_is_first(index: Index, question: str, document: str) -> None:
    found = index.search(question)
    assert found[0].document.endswith(document)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def test_what_is_cited_is_the_very_text(tmp_path: Path) -> None:
    index = documents_index(tmp_path, LEAVE, EXPENSES, "\n\n".join([LEAVE, EXPENSES, "\n" * 3] * 12))
    every = index.passages(dict.fromkeys(range(len(index)), 1.0))
    assert len(every) > 6 and sum(found.start > 1000 for found in every) > 2
    for found in every:
        text = Path(found.document).read_text(encoding="utf-8")
        assert text[found.start : found.end] == found.text
        assert text[: found.start].count("\n") == found.line - 1
        part = found.part(5, 9)
        assert text[part.start : part.end] == part.text == found.text[5:9]
        told = answer(found.text, index).source
        assert told and Path(told.document).read_text(encoding="utf-8")[told.start : told.end] == told.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    st.lists(
        st.text(alphabet=st.sampled_from("ab 书。.\n\t\ud800é\U00020000"), min_size=1), min_size=1, max_size=4
    )
)
def test_any_text_is_cited_as_it_is(tmp_path: Path, texts: list[str]) -> None:
    file = write_squad(tmp_path / "a.json", texts)
    try:
        build_index([str(file)], tmp_path / "i")
    except DataError as error:
        assert error.code == "retrieval.no-words"
        return
    index = Index(tmp_path / "i")
    contexts = {
        f"{file}:1#{number}" if len(texts) > 1 else f"{file}:1": text for number, text in enumerate(texts, 1)
    }
    for found in index.passages(dict.fromkeys(range(len(index)), 1.0)):
        assert contexts[found.document][found.start : found.end] == found.text


def test_nothing_is_found_where_no_word_is_shared(index: Index) -> None:
    assert index.search("quokka") == index.search("…") == index.search("") == []


def test_no_more_than_asked_for(tmp_path: Path) -> None:
    index = documents_index(tmp_path, *(f"leave number {number}" for number in range(9)))
    assert [len(index.search("leave", top)) for top in (1, 5, 50)] == [1, 5, 9]
    assert [found.text[-1] for found in index.search("leave", 3)] == ["0", "1", "2"]


def test_words_case_and_order_do_not_matter(index: Index) -> None:
    first = index.search("press oil filter")
    assert first == index.search("FILTER, oil; Press press!") and first


def test_an_index_of_another_order_ranks_the_same(tmp_path: Path) -> None:
    texts = ["leave days", "leave days of a year", "parcels and days", "书院的书", "书"]
    found = []
    for name, order in (("a", texts), ("b", texts[::-1])):
        (tmp_path / name).mkdir()
        index = documents_index(tmp_path / name, *order)
        found.append([(each.text, each.score) for each in index.search("leave days 书院")])
    assert found[0] == found[1] and len(found[0]) == 5


def test_from_python(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("body\nThe canteen opens at noon.\n")
    made = shuyuan.index(tmp_path / "a.csv", tmp_path / "i", text="body")
    assert (made["documents"], made["passages"], made["pairs"]) == (1, 1, False)
    assert shuyuan.open_index(tmp_path / "i").search("canteen")[0].document == f"{tmp_path}/a.csv:2"
