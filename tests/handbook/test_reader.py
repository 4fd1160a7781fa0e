"""The reader's progress survives, and nothing that happens to its file stops the grading."""

from __future__ import annotations

from pathlib import Path

import pytest

from shuyuan.handbook import Question, grade, load_bank, reader
from shuyuan.progress import Progress


@pytest.fixture
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


def answer(question: Question, *answers: str, progress: Progress | None = None) -> dict[str, object]:
    return reader.record(question, grade(question, list(answers)), progress or Progress())


def test_parts_add_up_over_several_tries(data_home: Path) -> None:
    question = load_bank()["training-cost"]
    parts = {part.id: f"{part.id}={part.value!r}" for part in question.facts.parts}
    entry = answer(question, parts["days"], "flops=5")
    assert (entry["tries"], entry["parts"], entry["solved"]) == (1, ["days"], None)
    assert answer(question, parts["flops"])["parts"] == ["flops", "days"]
    entry = answer(question, *(text for name, text in parts.items() if name not in ("days", "flops")))
    assert entry["tries"] == 3 and entry["solved"]
    assert answer(question, "days=1")["solved"] == entry["solved"]
    assert reader.load(Progress())[question.id]["tries"] == 4
    assert [file.name for file in (data_home / "shuyuan").iterdir()] == ["practice.json"]


def test_the_default_place_is_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert reader.progress_file() == tmp_path / ".local/share/shuyuan/practice.json"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"questions": 3}',
        '{"questions": {"answer": 3}}',
        '{"questions": {"answer": {"tries": "x"}}}',
        "\x00",
    ],
)
def test_a_damaged_file_is_set_aside_and_said(data_home: Path, numeric: Question, text: str) -> None:
    file = data_home / "shuyuan" / "practice.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    progress = Progress()
    assert answer(numeric, "42", progress=progress)["solved"]
    assert "practice.set-aside" in progress.said
    assert (file.parent / "practice.damaged.json").read_text() == text
    assert reader.load(Progress())["answer"]["solved"]


def test_an_unwritable_place_is_said_once(data_home: Path, numeric: Question) -> None:
    data_home.write_text("a file where the folder should be")
    progress = Progress()
    assert answer(numeric, "42", progress=progress)["solved"]
    answer(numeric, "42", progress=progress)
    assert list(progress.said) == ["practice.unsaved"]
    assert str(data_home) in progress.said["practice.unsaved"]


def test_a_crash_while_writing_leaves_the_old_file(
    data_home: Path, numeric: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(numeric, "13")
    before = reader.progress_file().read_text()

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reader.json, "dump", crash)
    with pytest.raises(KeyboardInterrupt):
        answer(numeric, "42")
    assert reader.progress_file().read_text() == before
    assert [file.name for file in (data_home / "shuyuan").iterdir()] == ["practice.json"]
