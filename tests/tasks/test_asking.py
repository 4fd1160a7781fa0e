"""Texts of any length: cut into parts that fit, asked for at once, and put together again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.tasks import Piece, QuestionAnswering, Summarization, Translation
from shuyuan.tasks.languages import filled, joined
from shuyuan.tasks.prompted import Asking, Prompt, Result, together


def text_of(prompt: Prompt) -> str:
    """What a prompt holds of the record: its first text."""
    return next(piece.text for piece in prompt if piece.kind == "text")


def asked(asking: Asking[Result], answer: Callable[[str], str], rounds: list[int] | None = None) -> Result:
    """The result where a model answers each prompt by its first text."""

    def answers(prompts: list[Prompt]) -> list[str]:
        if rounds is not None and prompts:
            rounds.append(len(prompts))
        return [answer(text_of(prompt)) for prompt in prompts]

    return together([asking], answers)[0]


def within(size: int) -> Callable[[Prompt], bool]:
    return lambda prompt: len(text_of(prompt)) <= size


@settings(deadline=None)
@given(st.text(alphabet="ab ,.!\n好。，", max_size=80), st.integers(1, 20))
def test_parts_fit_and_lose_nothing_but_space(text: str, size: int) -> None:
    parts = filled(text, lambda part: len(part) <= size)
    assert all(part and len(part) <= size for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_parts_are_as_few_as_fit_and_end_with_sentences() -> None:
    text = "One is here. Two is there. Three."
    assert filled(text, lambda part: len(part) <= 27) == ["One is here. Two is there.", "Three."]
    assert filled(text, lambda part: len(part) <= 14) == ["One is here.", "Two is there.", "Three."]
    assert filled("逗号前，逗号后", lambda part: len(part) <= 4) == ["逗号前，", "逗号后"]


def test_texts_are_joined_as_their_language_has_it() -> None:
    assert joined(["One.", "", "Two."]) == "One. Two."
    assert joined(["一。", "二。"]) == "一。二。"
    assert joined(["A.", "B."], to="zh") == "A.B."


def test_a_long_text_is_translated_sentence_by_sentence() -> None:
    task, rounds = Translation(), list[int]()
    text = "Good morning. Good night.\n\nThank you."
    told = {"Good morning.": "早上好。", "Good night.": "晚安。", "Thank you.": "谢谢。"}
    assert (
        asked(task.asking(text, within(100), to="zh"), told.__getitem__, rounds) == "早上好。晚安。\n\n谢谢。"
    )
    assert rounds == [3]
    back = {other: one for one, other in told.items()}
    assert (
        asked(task.asking("早上好。晚安。", within(9), to="en"), back.__getitem__)
        == "Good morning. Good night."
    )
    assert asked(task.asking("", within(9), to="en"), back.__getitem__) == ""


def test_a_long_text_is_summarized_by_parts_until_it_fits() -> None:
    task, rounds = Summarization(), list[int]()
    text = " ".join(f"Sentence {number} says a little." for number in range(20))

    def first_words(part: str) -> str:
        return " ".join(part.split()[:2]) + "."

    summary = asked(task.asking(text, within(60)), first_words, rounds)
    assert summary.rstrip(".") == "Sentence 0"
    assert len(rounds) > 2 and rounds[0] > rounds[-1] == 1
    assert asked(task.asking("Short.", within(60)), str.upper, rounds) == "SHORT."


def test_summaries_that_grow_are_given_up() -> None:
    assert len(asked(Summarization().asking("One. Two. Three.", within(6)), lambda part: part * 9)) > 16


def test_an_answer_is_taken_from_the_part_that_holds_it() -> None:
    task = QuestionAnswering()
    context = "Long ago there was a poet. His name was Li Bai. He drank."

    def answer(part: str) -> str:
        return "Li Bai" if "Li Bai" in part else "not in the text"

    found = asked(task.asking("Who?", within(30), context=context), answer)
    assert (found.text, found.found, found.start) == ("Li Bai", True, context.index("Li Bai"))
    nothing = asked(task.asking("谁？", within(30), context=context), lambda _: "not in the text")
    assert (nothing.text, nothing.found, nothing.start) == ("文中没有答案", False, None)
    made_up = asked(task.asking("Who?", within(99), context=context), lambda _: "Du Fu")
    assert (made_up.text, made_up.found, made_up.start) == ("Du Fu", True, None)
    by_heart = asked(task.asking("Who?", within(99)), lambda question: f"{question} Me.")
    assert (by_heart.text, by_heart.start) == ("Who? Me.", None)


def test_many_inputs_are_asked_round_by_round() -> None:
    rounds = list[list[str]]()

    def asking(name: str, count: int) -> Asking[str]:
        said = ""
        for number in range(count):
            (more,) = yield [(Piece(f"{name}{number}"),)]
            said += more
        return said

    def answers(prompts: list[Prompt]) -> list[str]:
        rounds.append([text_of(prompt) for prompt in prompts])
        return [text_of(prompt).upper() for prompt in prompts]

    found = together([asking("a", 2), asking("b", 0), asking("c", 3)], answers)
    assert found == ["A0A1", "", "C0C1C2"]
    assert [each for each in rounds if each] == [["a0", "c0"], ["a1", "c1"], ["c2"]]


@pytest.mark.parametrize("size", [1, 3])
def test_a_part_that_cannot_be_cut_further_is_left_as_it_is(size: int) -> None:
    assert filled("abc", lambda part: False) == ["a", "b", "c"]
    assert filled("a", lambda part: size < 0) == ["a"]
