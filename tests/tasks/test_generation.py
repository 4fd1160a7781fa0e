"""Generation: the whole record is learned, under its title where it has one."""

from __future__ import annotations

import pytest

from shuyuan.errors import DataError, RecipeError
from shuyuan.recipe import from_table
from shuyuan.tasks import Generation, under

TITLED = {"text": "body", "title": "head"}


def test_a_text_stands_under_its_title_and_both_are_learned() -> None:
    example = Generation().example({"body": "It rains.", "head": " Weather "}, TITLED, "a.csv:2")
    assert example.text == under("Weather") + "It rains."
    assert all(piece.learn for piece in example.pieces)
    assert Generation().example({"body": "It rains."}, {"text": "body"}, "").text == "It rains."
    assert Generation().columns(TITLED) == ["body", "head"] and Generation().columns({"text": "body"}) == [
        "body"
    ]


def test_what_lacks_a_title_is_left_out_and_a_column_that_is_not_there_refused() -> None:
    assert Generation().lacking({"body": "x", "head": None}, TITLED) == "a title"
    assert Generation().lacking({"body": "x", "head": "y"}, TITLED) is None
    with pytest.raises(DataError, match="head"):
        Generation().example({"body": "x"}, TITLED, "a.csv:2")


def test_only_generation_has_titles() -> None:
    data = {"source": "a.csv", "title": "head"}
    assert from_table({"data": data}).columns == {"text": "text", "title": "head"}
    with pytest.raises(RecipeError, match=r"data\.title"):
        from_table({"task": "summarization", "data": data})
