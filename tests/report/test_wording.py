"""Figures and strange text, written for people."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.report import wording

ACTING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text(st.characters()))
def test_whatever_is_made_visible_acts_no_more(text: str) -> None:
    shown = wording.visible(text)
    shown.encode()  # also with broken surrogates
    assert all(unicodedata.category(char) not in ACTING or char in "\n\t\u200c\u200d" for char in shown)
    assert wording.visible(shown) == shown


@pytest.mark.parametrize("text", ["plain", "名字，书院", "a\n\tb", "👩\u200d🔬", "עברית", "é", "", " "])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert wording.visible(text) == text


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
    assert wording.visible(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.25, "0.25 s"), (59.6, "1 min"), (127, "2 min 7 s"), (3600, "1 h"), (4000, "1 h 6 min"),
        (90_000, "1 d 1 h"), (None, "–"), (float("nan"), "–"), (-1, "–"), ("12", "–"),
    ],
)  # fmt: skip
def test_durations(seconds: object, text: str) -> None:
    assert wording.duration(seconds) == text


def test_other_figures() -> None:
    assert [wording.size(value) for value in (1500, 790 << 20, None)] == ["1.5 kB", "828 MB", "–"]
    assert [wording.rounded(value) for value in (5_312_256, 1.2e9, 12_345)] == [
        "5.31 million",
        "1.2 billion",
        "12,345",
    ]
    assert wording.flops(9.999e13) == "1.00 × 10¹⁴"
    assert [wording.nats(value) for value in (3.14159, float("inf"), True)] == ["3.142", "–", "–"]
