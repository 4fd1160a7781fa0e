"""Numbers as people write them."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan.handbook.quantity import SCALES, UNITS, UnreadableError, arithmetic, read, write

SEVEN_HUNDRED_THOUSAND = [
    "0.7e6", "700,000", "700 000", "700_000", "700000", "0.7 million", "0.7M", "700k", "700 thousand", "70万", "70 万", "７０万",
    "70w", "7 × 10^5", "7×10⁵", "7 x 10**5", "7e5 hours", "70万小时", "70 万 A100 卡时", "0.7 million A100-hours",
    "about 700,000 GPU hours", "≈ 0.7 million", "约70万", "2.52e9 seconds", "29166.6667 GPU-days", "+700,000.0", "0.07 千万",
    "3.5e5 * 2", "(1.4e6) / 2",
]  # fmt: skip


@pytest.mark.parametrize("text", SEVEN_HUNDRED_THOUSAND)
def test_reads_what_people_write(text: str) -> None:
    assert read(text, "hours") == pytest.approx(7e5, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("2.45 TB", "bytes", 2.45e12), ("2450GB", "bytes", 2.45e12), ("2.45T", "bytes", 2.45e12), ("2450 B", "bytes", 2450),
        ("2.45万亿字节", "bytes", 2.45e12), ("1 GiB", "bytes", 2**30), ("3640 PF-days", "FLOP", 3.14496e23),
        ("3.15×10²³ FLOPs", "FLOP", 3.15e23), ("315 ZFLOP", "FLOP", 3.15e23), ("682 h", "days", 682 / 24),
        ("28.4 天", "days", 28.4), ("10^23", "FLOP", 1e23), ("1.5亿", "FLOP", 1.5e8),
    ],
)  # fmt: skip
def test_converts_units(text: str, unit: str, value: float) -> None:
    assert read(text, unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nan", "finite"), ("NaN hours", "finite"), ("inf", "finite"), ("-∞", "finite"), ("1e999", "finite"), ("1e99999999999", "finite"),
        ("1e308 * 1e308", "finite"), ("", "number"), ("many", "number"), ("0,7 million", "number"), ("1,2345", "number"),
        ("700-800", "number"), ("5 h 3", "number"), ("7 hours hours", "number"), ("9**9**9**9", "number"), ("1/0", "number"),
        ("__import__('os')", "number"), ("2 TB", "unit"), ("5 FLOP", "unit"), ("(" * 300, "number"), ("x" * 10**5, "number"),
        ("'a' * 9", "number"), ("True", "number"), ("(-8) ** 0.5", "number"), ("1 mio", "number"),
    ],
)  # fmt: skip
def test_refuses_the_rest(text: str, why: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read(text, "hours")
    assert caught.value.why == why


numbers = st.floats(min_value=1e-3, max_value=1e24, allow_nan=False)
whole = st.integers(min_value=0, max_value=10**15)


@given(numbers)
def test_reads_every_way_a_float_is_printed(number: float) -> None:
    for text in (repr(number), f"{number:e}", f"{number:.17g}", f"  {number!r}  hours"):
        assert read(text, "hours") == pytest.approx(number, rel=1e-6)


@given(whole)
def test_reads_grouped_digits(number: int) -> None:
    for text in (f"{number:,}", f"{number:_}", f"{number:,}".replace(",", " ")):
        assert read(text, "FLOP") == number


@given(st.floats(0.01, 999), st.sampled_from(sorted(SCALES)), st.sampled_from(sorted(UNITS["time"])))
def test_scale_times_unit(number: float, scale: str, unit: str) -> None:
    expected = number * SCALES[scale] * UNITS["time"][unit]
    assert read(f"{number!r} {scale} {unit}", "hours") == pytest.approx(expected)


@given(numbers, st.sampled_from(["en", "zh"]), st.integers(2, 6))
def test_what_is_written_can_be_read_again(number: float, language: str, digits: int) -> None:
    text = write(number, language, digits)  # type: ignore[arg-type]
    assert read(text, "FLOP") == pytest.approx(number, rel=0.6 * 10.0 ** (1 - digits))


@given(st.text(max_size=40))
def test_any_text_is_a_finite_number_or_refused(text: str) -> None:
    with suppress(UnreadableError):
        assert math.isfinite(read(text, "bytes"))


def test_writes_in_the_way_of_each_language() -> None:
    assert (write(698_896, "en"), write(698_896, "zh")) == ("699,000", "69.9 万")
    assert (write(3.115e6, "en"), write(3.115e6, "zh")) == ("3.12 million", "312 万")
    assert write(3.15e23, "zh") == "3.15 × 10²³"
    assert write(2.45e12, "zh", unit="bytes") == "2.45 TB"
    assert (write(999_999, "en"), write(0, "en"), write(28.44, "en")) == ("1.00 million", "0", "28.4")


def test_arithmetic_obeys_precedence() -> None:
    assert arithmetic("3.14e23 / (0.40 * 312e12) / 3600") == pytest.approx(698_896.01)
    assert arithmetic("175e9 * (2 + 4 + 4 + 4)") == 2.45e12
