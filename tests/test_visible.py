"""Strange text, written for people."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.visible import visible

ACTING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text(st.characters()))
def test_whatever_is_made_visible_acts_no_more(text: str) -> None:
    shown = visible(text)
    shown.encode()  # also with broken surrogates
    assert all(unicodedata.category(char) not in ACTING or char in "\n\t\u200c\u200d" for char in shown)
    assert visible(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["plain", "名字，书院", "　全角空格", "Quoi\u00a0?", "a\n\tb", "👩\u200d🔬", "עברית", "é", "", " "],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "⟨U+001B⟩[31m"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\u2066x\u2069", "⟨U+2066⟩x⟨U+2069⟩"),
        ("\u200b", "⟨U+200B⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("a\r\nb\rc", "a\nb⟨U+000D⟩c"),
        ("\x00\x7f\x85", "⟨U+0000⟩⟨U+007F⟩⟨U+0085⟩"),
        ("\U000e0041", "⟨U+E0041⟩"),
    ],
)
def test_what_acts_is_shown_by_its_number(text: str, shown: str) -> None:
    assert visible(text) == shown
