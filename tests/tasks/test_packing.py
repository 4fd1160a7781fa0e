"""Records with prompts as one text: what goes in comes out, and no record can pass for one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.data.clean import clean
from shuyuan.tasks import Example, Piece
from shuyuan.tasks.packing import MARK, all_words, in_texts, packed, texts_of, unpacked

PIECES = st.builds(
    Piece,
    st.text(max_size=20),
    st.booleans(),
    st.sampled_from(["text", "markup", "end"]),
    st.sampled_from(["no", "start", "end"]),
    st.none() | st.tuples(st.integers(0, 9), st.integers(10, 20)),
    st.none() | st.integers(0, 5),
)
EXAMPLES = st.lists(
    st.builds(lambda pieces: Example(tuple(pieces)), st.lists(PIECES, min_size=1, max_size=5)),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(EXAMPLES)
def test_what_is_packed_comes_out_again(examples: list[Example]) -> None:
    assert unpacked(packed(examples)) == examples


@settings(deadline=None)
@given(st.text())
def test_no_clean_text_passes_for_a_packed_one(text: str) -> None:
    cleaned = clean(MARK + text)
    assert unpacked(cleaned) == [Example((Piece(cleaned),))]
    assert texts_of(cleaned) == all_words(cleaned) == [cleaned] or not cleaned


def test_texts_are_changed_and_the_words_of_the_task_are_not() -> None:
    row = Example((Piece("ask ", False, "markup"), Piece("ask", False), Piece("", kind="end")))
    content = packed([row, row])
    assert in_texts(str.upper, "ask") == "ASK"
    changed = in_texts(str.upper, content)
    assert [piece.text for piece in unpacked(changed)[1].pieces] == ["ask ", "ASK", ""]
    assert texts_of(changed) == ["ASK"]
    assert all_words(changed) == ["ask ", "ASK"] * 2


def test_a_text_that_stands_in_two_rows_is_changed_once() -> None:
    seen: list[str] = []
    row = Example((Piece("one"), Piece("two")))
    in_texts(lambda text: seen.append(text) or text, packed([row, row]))  # type: ignore[func-returns-value]
    assert seen == ["one", "two"]
