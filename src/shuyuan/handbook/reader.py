"""The reader's progress: one small file of their own, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..progress import Progress
from .bank import Question
from .check import Verdict
from .quantity import Language
from .words import say


def progress_file() -> Path:
    """$XDG_DATA_HOME/shuyuan/practice.json, by default under ~/.local/share."""
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "shuyuan" / "practice.json"


def load(progress: Progress, language: Language = "en") -> dict[str, dict[str, Any]]:
    """What the reader has done: {question id: {"tries": n, "parts": [...], "solved": date or None}}.

    A damaged file is set aside under another name, and the reader is told once.

    Args:
        progress: is told of a damaged file.
        language: of what it is told. Default "en".
    """
    file = progress_file()
    try:
        table = json.loads(file.read_text(encoding="utf-8"))["questions"]
        return {str(name): _entry(entry) for name, entry in table.items()}
    except OSError:
        return {}  # not there yet, or not readable: then saving says so
    except (ValueError, TypeError, KeyError, AttributeError):
        aside = file.with_suffix(".damaged.json")
        with suppress(OSError):
            file.replace(aside)
            progress.say("practice.set-aside", say(language, "set-aside", file=aside))
        return {}


def record(
    question: Question, verdict: Verdict, progress: Progress, language: Language = "en"
) -> dict[str, Any]:
    """Notes one try and returns the question's entry; where it cannot be saved, says so once and goes on.

    Args:
        question: which was tried.
        verdict: on the try.
        progress: is told where it cannot be saved.
        language: of what it is told. Default "en".

    Returns:
        {"tries": n, "parts": [...], "solved": date or None}, this try among them.
    """
    entries = load(progress, language)
    entry = entries.setdefault(question.id, _entry({}))
    entry["tries"] += 1
    right = {remark.part for remark in verdict.remarks if remark.correct and remark.part}
    wanted = [part.id for part in question.facts.parts]
    entry["parts"] = [part for part in wanted if part in right or part in entry["parts"]]
    if verdict.complete or (wanted and entry["parts"] == wanted):
        entry["solved"] = entry["solved"] or time.strftime("%Y-%m-%d")
    try:
        _write(progress_file(), {"version": 1, "questions": entries})
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        progress.say("practice.unsaved", say(language, "unsaved", file=progress_file(), why=why))
    return entry


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "tries": int(entry.get("tries", 0)),
        "parts": list(entry.get("parts", [])),
        "solved": entry.get("solved"),
    }


def _write(file: Path, table: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=file.parent, prefix=".practice-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(table, out, indent=1, ensure_ascii=False)
        Path(beside).replace(file)
    except BaseException:
        with suppress(OSError):
            Path(beside).unlink()
        raise
