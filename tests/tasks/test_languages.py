"""Which language a text is, and where its sentences end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.tasks.languages import language_of, sentences, words


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Hello", "en"),
        ("你好", "zh"),
        ("", "en"),
        ("42!", "en"),
        ("我们使用了 BERT 模型", "zh"),
        ("Chinese for tea is 茶", "en"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert language_of(text) == language


@settings(deadline=None)
@given(st.text(alphabet='aB .!?。！？\n"”你好3'))
def test_sentences_are_the_text_again(text: str) -> None:
    parts = sentences(text)
    assert "".join(parts) == text
    assert all(parts)


def test_sentences_end_where_people_end_them() -> None:
    assert sentences("Mr. Li paid 3.5 dollars. “Really?” Yes!") == [
        "Mr. Li paid 3.5 dollars. ",
        "“Really?” ",
        "Yes!",
    ]
    assert sentences("你好。他说：“走吧！”然后走了？好") == ["你好。", "他说：“走吧！”", "然后走了？", "好"]
    assert sentences("one\n\ntwo") == ["one\n\n", "two"]


def test_words_are_characters_in_chinese() -> None:
    assert words("The BERT模型, isn't_it 3.5") == ["the", "bert", "模", "型", "isn", "t", "it", "3", "5"]
