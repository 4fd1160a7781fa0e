"""What is said of errors, whoever raises them."""

from __future__ import annotations

import pytest

from shuyuan.errors import first_line


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  \n one"), "one"),
        (ValueError(), "ValueError"),
        (EOFError("\n"), "EOFError"),
        (ValueError("x" * 999), "x" * 300),
    ],
)
def test_what_a_library_says_in_one_line(error: Exception, told: str) -> None:
    assert first_line(error) == told
