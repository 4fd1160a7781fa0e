"""Bytes for people: three digits, units by powers of 1000, and the same everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.sizes import UNITS, scale_of, size

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"), (1, "1 bytes"), (999, "999 bytes"), (1000, "1 kB"), (1536, "1.54 kB"), (99_600, "99.6 kB"), (99_960, "100 kB"), (999_600, "1 MB"),
        (2**20, "1.05 MB"), (790 * 2**20, "828 MB"), (25.3e9, "25.3 GB"), (2**30, "1.07 GB"), (3e12, "3 TB"), (5e18, "5,000 PB"),
    ],
)  # fmt: skip
def test_some_sizes(number: float, text: str) -> None:
    assert size(number) == text


@given(st.floats(0, 1e17))
def test_a_size_is_within_a_half_of_its_last_digit(number: float) -> None:
    told, unit = size(number).split()
    assert abs(float(told.replace(",", "")) * 1000.0 ** UNITS.index(unit) - number) <= max(
        0.5, 0.005 * number
    )
    assert len(re.sub(r"\D", "", told)) <= 4 and scale_of(number) == (1000.0 ** UNITS.index(unit), unit)


def test_powers_of_1024_are_told_nowhere_but_where_a_limit_is_one() -> None:
    """The limits of formats are powers of two by definition, and the handbook teaches both; what is measured, planned or stored is told by
    `size`."""
    limits = {
        "vault",
        "data/sources/tables.py",
        "handbook/quantity.py",
        "handbook/words.py",
        "handbook/questions",
    }
    source = ROOT / "src/shuyuan"
    for file in sorted(source.rglob("*.*")):
        name = file.relative_to(source).as_posix()
        if file.suffix in {".py", ".js", ".html"} and not name.startswith(tuple(limits)):
            assert not re.search(r"\b[KMGT]iB\b|/ ?2 ?\*\* ?(20|30)", file.read_text(encoding="utf-8")), name
