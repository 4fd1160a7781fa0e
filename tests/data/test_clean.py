"""Cleaning gives one form of each text, and says what it leaves out."""

from __future__ import annotations

import unicodedata
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shuyuan.data.clean import Cleaner, clean

anything = st.text(st.characters())  # with lone surrogates, controls and all


@given(anything)
def test_a_clean_text_is_clean(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not {unicodedata.category(character) for character in cleaned if character not in "\n\t"} & {
        "Cc",
        "Cs",
    }
    cleaned.encode()


def test_line_ends_controls_and_halves_of_pairs() -> None:
    assert clean("a\r\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h\n\ti") == "a\nb\nc\nd\ne\nf\ng\nh\n\ti"
    assert clean("a\x00b\x1b[0m\x7f\x9fc\ufeff") == "ab[0mc"
    assert clean("half \ud83d pair") == "half \N{REPLACEMENT CHARACTER} pair"
    assert clean("e\u0301 书院 👩‍👩‍👧") == "é 书院 👩‍👩‍👧"


def test_lengths_are_counted_after_cleaning() -> None:
    cleaner, skipped = Cleaner(3, 5), Counter[str]()
    kept = [cleaner(text, skipped) for text in ("", " \n", "\0\0", "ab", "a\0b", "abc", "abcde", "abcdef")]
    assert kept == [None, None, None, None, None, "abc", "abcde", None]
    assert skipped == {"empty records": 3, "records under 3 characters": 2, "records over 5 characters": 1}
    assert cleaner.changed == 2
