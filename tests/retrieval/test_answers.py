"""Answers from documents: the sentence, the place, and a reader that is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from shuyuan.errors import DataError
from shuyuan.retrieval import Index, Span, answer, best_sentence, window_span

from .parts import documents_index


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return documents_index(tmp_path_factory.mktemp("documents"))


@pytest.mark.parametrize(
    ("question", "sentence", "line"),
    [
        ("Who decides on exceptions?", "Dr. Chen decides on exceptions.", 4),
        ("When does unused leave expire?", "Unused leave expires on the 31st of March of the next year.", 6),
        ("发票丢了怎么办？", "发票丢失的，须由开票单位出具证明。", 5),
        ("What is the number of the oil filter?", "Its oil filter is part number KX-7。", 1),
    ],
)
def test_the_sentence_that_answers(index: Index, question: str, sentence: str, line: int) -> None:
    told = answer(question, index)
    assert told.answer == sentence and told.source is not None
    assert told.source.line == line
    text = Path(told.source.document).read_text(encoding="utf-8")
    assert text[told.source.start : told.source.end] == sentence
    assert told.confidence is None and "hand-over" not in told.as_dict()


def test_nothing_fits(index: Index) -> None:
    told = answer("quokka?", index)
    assert (told.answer, told.source, told.passages) == (None, None, [])


@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_is_refused(index: Index, question: str) -> None:
    with pytest.raises(DataError) as caught:
        answer(question, index)
    assert caught.value.code == "retrieval.empty-question"


def test_a_reader_is_asked_instead(index: Index) -> None:
    seen: list[str] = []

    def reader(question: str, contexts: Sequence[str]) -> Span | None:
        seen.extend(contexts)
        at = contexts[0].index("25 days")
        return Span(0, at, at + 7, 0.9)

    told = answer("How much leave is there?", index, reader, top=2)
    assert told.answer == "25 days" and told.source is not None and told.source.line == 3
    assert seen == [passage.text for passage in told.passages]


def test_a_reader_may_say_that_it_is_not_in_the_text(index: Index) -> None:
    told = answer("How much leave is there?", index, lambda question, contexts: None)
    assert told.answer is None and told.passages


def test_of_equal_sentences_the_earlier_passage_wins_then_the_shorter() -> None:
    same = lambda term: 1.0  # noqa: E731
    assert best_sentence("red fox", ["A dog.", "A red fox.", "The red fox."], same) == Span(1, 0, 10, 2.0)
    assert best_sentence("red fox", ["The very red fox. A red fox."], same) == Span(0, 18, 28, 2.0)
    assert best_sentence("blue", ["A red fox."], same) is None


def test_a_span_beside_the_words_of_the_question() -> None:
    same = lambda term: 1.0  # noqa: E731
    english = "The river rose. The press is serviced by Anna Smith every year. The fox slept."
    span = window_span("Who is the press serviced by every year?", english, same)
    assert span is not None and english[span.start : span.end] == "Anna Smith"
    chinese = "河水上涨。住宿费上限为五百元。狐狸睡了。"
    span = window_span("住宿费上限为多少元？", chinese, same)
    assert span is not None and chinese[span.start : span.end] == "五百"
    assert window_span("quokka", english, same) is None
