"""What people see while a verb works: one line a stage, at 80 columns too."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from shuyuan.cli.screen import Screen
from shuyuan.cli.wrapped import laid_out


def drawn(width: int) -> list[str]:
    """The last picture of three stages on a terminal."""
    screen = Screen()
    screen.console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    with screen.stage("fit the bigram baseline", 10, "steps") as stage:
        stage.advance(10)
    with screen.stage("train", 1000, "steps") as stage:
        stage.advance(1000, loss=0.2006, lr=0.000144, tok_s=12645, epsilon=7.998)
    with screen.stage("read the source", None, "bytes") as stage:
        stage.advance(123_456)
    screen.close()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.console.file.getvalue())
    return [line.rpartition("\r")[2].rstrip() for line in text.rstrip().splitlines()[-3:]]


@pytest.mark.parametrize("width", [80, 120])
def test_a_stage_is_one_line(width: int) -> None:
    names = ("fit the bigram baseline", "train ", "read the source")
    lines = drawn(width)
    assert all(name in line for name, line in zip(names, lines, strict=True))
    assert all("100% 0:00 taken" in line and len(line) <= width for line in lines[1:])
    assert "loss 0.2006 lr 0.000144 tok_s 12,645" in lines[1]
    assert lines[1].endswith("…" if width == 80 else "epsilon 7.998")
    assert ("━" in lines[1]) == (width == 120)


def test_chinese_is_broken_where_a_line_is_full() -> None:
    text = Text("sample 1: ", style="cyan") + Text(
        "患者因左臂皮疹和头晕来诊。" * 8 + "\n\nand then a line of its own"
    )
    lines = laid_out(text, 40).plain.split("\n")
    assert lines[0] == "sample 1: 患者因左臂皮疹和头晕来诊。患者"
    assert lines[-2:] == ["", "and then a line of its own"]
    assert max(map(cell_len, lines)) <= 40
    assert laid_out(text, 40).spans[0].style == "cyan"
