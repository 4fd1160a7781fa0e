"""Which lines of the log count, after a resume, a start over and a rollback."""

from __future__ import annotations

from shuyuan.train.metrics import valid_lines
from tests.report.conftest import start_line, step_lines


def test_a_resume_makes_later_lines_void() -> None:
    first = [start_line(), *step_lines(1, 60), {"event": "train.skipped", "step": 55, "reason": "loss"}]
    kept = {"event": "notice", "code": "x", "text": "stays"}
    lines = valid_lines([*first, kept, start_line(50, resumed=True), *step_lines(51, 80)])
    steps = [line["step"] for line in lines if line["event"] == "train.step"]
    assert steps == list(range(1, 81))
    assert [line["step"] for line in lines if line["event"] == "train.validation"] == [40, 80]
    assert not [line for line in lines if line["event"] == "train.skipped"]
    assert kept in lines


def test_a_start_over_makes_all_earlier_steps_void() -> None:
    lines = valid_lines([start_line(), *step_lines(1, 5), start_line(), *step_lines(1, 3)])
    assert [line["step"] for line in lines if line["event"] == "train.step"] == [1, 2, 3]


def test_a_rollback_makes_steps_void_and_is_remembered() -> None:
    skipped = [{"event": "train.skipped", "step": step, "reason": "loss"} for step in (48, 49, 50)]
    back = {"event": "train.rollback", "step": 50, "to_step": 30, "reason": "loss"}
    lines = valid_lines([start_line(), *step_lines(1, 47), *skipped, back, *step_lines(31, 60)])
    assert [line["step"] for line in lines if line["event"] == "train.step"] == list(range(1, 61))
    assert back in lines and skipped[0] in lines
