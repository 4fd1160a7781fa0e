"""How a verb ends: its exit status, one JSON object, and nothing of what nobody foresaw."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from shuyuan import pipeline, report
from shuyuan.cli import audit, classify, info, verify
from shuyuan.cli.frame import frame
from shuyuan.cli.inputs import one_line
from shuyuan.errors import Interrupted, ShuyuanError

REFUSED = ShuyuanError("a.refusal", "It is refused.", mend="Mend it.")
STOPPED = Interrupted("train.interrupted", "Training was interrupted.", mend="Run the same command again.")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (REFUSED, 1, "a.refusal"),
        (STOPPED, 130, "train.interrupted"),
        (KeyboardInterrupt(), 130, "run.interrupted"),
        (OSError(28, "No space left on device"), 1, "machine.os-error"),
        (MemoryError(), 1, "machine.out-of-memory"),
        (ValueError("words of a record"), 1, "internal.unexpected"),
    ],
)
def test_an_error_is_an_exit_status_and_one_json_object(
    error: BaseException, status: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, frame(as_json=True):
        raise error
    said = capsys.readouterr()
    assert caught.value.exit_code == status
    assert json.loads(said.out)["error"]["code"] == code
    assert "words of a record" not in said.out + said.err


def test_an_error_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    error = ShuyuanError("a.refusal", "No \x1b[2Jcolumn.", where="a\x1b]0;b\x07.csv", mend="Mend\u202e it.")
    with pytest.raises(typer.Exit), frame() as answer:
        answer.screen.show("Read \x9b31m.")
        raise error
    said = capsys.readouterr().err
    assert "⟨U+001B⟩[2Jcolumn" in said and "a⟨U+001B⟩]0;b⟨U+0007⟩.csv" in said
    assert not any(char in said for char in "\x1b\x07\u202e\x9b")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Ça va\u00a0?\r\n　是\t的", "Ça va\u00a0?\\n　是\t的"),
        ("C:\\new", "C:\\\\new"),
        ("a\x1bb\u2028c", "a⟨U+001B⟩b⟨U+2028⟩c"),
    ],
)
def test_an_answer_among_many_is_one_line(text: str, line: str) -> None:
    assert one_line(text) == line


@pytest.mark.parametrize(
    ("stdin", "texts"),
    [("", []), ("one\ntwo", ["one", "two"]), ("a\u2028b\x0cc\n\nd\n", ["a\u2028b\x0cc", "", "d"])],
)
def test_texts_on_stdin_are_lines_and_nothing_else(
    stdin: str, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    assert classify._given(None, None, "text") == texts


def test_a_first_signal_waits_for_a_safe_point_and_a_second_breaks_off_at_once() -> None:
    with pytest.raises(typer.Exit) as caught, frame() as answer, answer.screen.stop.gently() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        signal.raise_signal(signal.SIGINT)
        raise ValueError("it went on")
    assert caught.value.exit_code == 130


def test_a_reader_that_has_had_enough_is_no_failure() -> None:
    with pytest.raises(typer.Exit) as caught, frame():
        raise BrokenPipeError
    assert caught.value.exit_code == 0


def test_an_answer_may_be_a_failure_and_has_no_figures_that_json_lacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as caught, frame(as_json=True) as answer:
        answer.give({"a": float("nan"), "b": [float("inf"), 1.5]}, lambda: None, status=1)
    assert caught.value.exit_code == 1
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5]}


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_what_does_not_verify_is_an_exit_status(
    ok: bool, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "verify", lambda *_: {"ok": ok, "problems": [], "head": None})
    ended = 0
    try:
        verify.verify(tmp_path, None, None, True, False)
    except typer.Exit as end:
        ended = end.exit_code
    assert ended == status


def test_a_run_that_cannot_be_asked_for_an_owner_is_an_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"run": "a", "contains": None, "reason": "sealed", "splits": {}, "trained": None, "from": None}
    monkeypatch.setattr(report, "owner_in_runs", lambda *_: {"owner": "li", "runs": [row]})
    with pytest.raises(typer.Exit) as caught:
        info.info([Path("a")], "li", None, True, False)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("lower", "upper", "said"),
    [(3.0, 1.0, "Do not release"), (0.5, 1.0, "proves nothing"), (3.0, None, "proves nothing")],
)
def test_an_audit_that_finds_more_than_was_promised_says_so(
    lower: float, upper: float | None, said: str
) -> None:
    extraction = {"put_in": 1, "brought_back": 0, "left_out": 1, "brought_back_of_left_out": 0}
    found: dict[str, Any] = {
        "epsilon_lower": lower, "epsilon_upper": upper, "delta": 1e-5, "confidence": 0.95, "ceiling": 4.0, "canaries": 2,
        "guesses": 2, "correct": 2, "extraction": extraction,
    }  # fmt: skip
    out = Console(file=io.StringIO(), width=200)
    audit._show(out, found)
    assert said in out.file.getvalue()  # type: ignore[attr-defined]
