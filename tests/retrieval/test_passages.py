"""Passages and sentences: where a text is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shuyuan.retrieval.passages import passages, sentences, width

from .parts import EXPENSES, LEAVE

TEXTS = st.text(alphabet=st.sampled_from("aZ 书。.!\n,\t9é\U00020000"), max_size=400)


def pieces(text: str, places: list[tuple[int, int]]) -> list[str]:
    return [text[start:end] for start, end in places]


@given(TEXTS, st.integers(2, 60))
def test_passages_hold_all_that_is_no_white_space(text: str, columns: int) -> None:
    places = passages(text, columns)
    ends = [0, *(end for _, end in places)]
    starts = [*(start for start, _ in places), len(text)]
    assert all(end <= start for end, start in zip(ends, starts, strict=True))
    assert not "".join(text[end:start] for end, start in zip(ends, starts, strict=True)).strip()
    assert all(piece == piece.strip() != "" for piece in pieces(text, places))


@given(TEXTS, st.integers(2, 60))
def test_no_passage_is_wider_than_allowed(text: str, columns: int) -> None:
    assert all(width(text, *place) <= columns for place in passages(text, columns))


@given(TEXTS)
def test_sentences_hold_all_that_is_no_white_space(text: str) -> None:
    assert "".join("".join(pieces(text, sentences(text))).split()) == "".join(text.split())


def test_paragraphs_stay_together_and_whole() -> None:
    text = "one\n\ntwo two\n \nthree three three\n\nfour"
    assert pieces(text, passages(text, 17)) == ["one\n\ntwo two", "three three three", "four"]


def test_a_long_paragraph_is_cut_at_sentences_into_equal_parts() -> None:
    text = " ".join(f"Sentence number {number:02} has words." for number in range(30))
    parts = pieces(text, passages(text, 500))
    assert all(part.endswith(".") and part.startswith("Sentence") for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 60


def test_a_long_chinese_paragraph_too() -> None:
    text = "".join(f"第{number:02}句话说的是同一件事情。" for number in range(60))
    parts = pieces(text, passages(text, 300))
    assert len(parts) > 4
    assert "".join(parts) == text
    assert all(part.endswith("。") and width(part, 0, len(part)) <= 300 for part in parts)


def test_a_sentence_without_an_end_is_cut_at_spaces_or_anywhere() -> None:
    assert all(part[-1] == "d" for part in pieces("word " * 100, passages("word " * 100, 50)))
    assert "".join(pieces("书" * 100, passages("书" * 100, 50))) == "书" * 100


def test_sentences() -> None:
    assert pieces(LEAVE, sentences(LEAVE)) == [
        "# Leave",
        "Every employee has 25 days of leave a year.",
        "Requests are sent to the head of\nthe department at least two weeks before.",
        "Dr. Chen decides on exceptions.",
        "Unused leave expires on the 31st of March of the next year.",
    ]
    assert pieces(EXPENSES, sentences(EXPENSES)) == [
        "差旅费报销",
        "员工出差后应在三十日内提交报销单。",
        "住宿费上限为每晚五百元，由部门经理审批。",
        "发票丢失的，须由开票单位出具证明。",
    ]
    said = '"Stop!" he said. 他说：“走吧！”她笑了。'
    assert pieces(said, sentences(said)) == ['"Stop!"', "he said.", "他说：“走吧！”", "她笑了。"]
