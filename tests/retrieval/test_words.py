"""What counts as a term, in English, Chinese and both."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.retrieval.words import asked, terms, units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two parcels, three BOXES.", ["two", "parcel", "three", "box"]),
        ("companies' glass buses", ["company", "glass", "buse"]),
        ("Café ｆｕｌｌ cafe\u0301", ["cafe", "full", "cafe"]),
        ("报销单", ["报", "销", "单", "报销", "销单"]),
        ("用GPU训练，快", ["用", "gpu", "训", "练", "训练", "快"]),
        ("in 2019年", ["in", "2019", "年"]),
        ("カフェ", ["カ", "フ", "ェ", "カフ", "フェ"]),
        ("—…!? \n", []),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_traditional_and_simplified_are_different_characters() -> None:
    assert not set(terms("书")) & set(terms("書"))


def test_a_question_is_asked_without_the_words_of_questions() -> None:
    assert asked("When does the press need oil?") == ["need", "oil", "press"]
    assert asked("住宿费是多少？") == sorted(set(terms("住宿费是多少")) - {"是", "多少"})
    assert asked("What is it?") == ["is", "it", "what"]


@given(st.text())
def test_case_and_width_do_not_matter(text: str) -> None:
    plain = "".join(c for c in text if c.isascii())
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in plain)
    assert terms(plain) == terms(plain.upper()) == terms(wide)


@given(st.text(alphabet=st.sampled_from("aB书é馆9 ,。\u0301")))
def test_units_stand_where_they_say(text: str) -> None:
    found = list(units(text))
    assert [unit.term for unit in found] == [
        term for unit in found for term in terms(text[unit.start : unit.end])
    ]
    assert all(first.end <= second.start for first, second in itertools.pairwise(found))
