"""Figures, written for people."""

from __future__ import annotations

import pytest

from shuyuan.report import wording


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
