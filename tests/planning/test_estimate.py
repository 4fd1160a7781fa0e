"""What is guessed of a source before it is prepared."""

from __future__ import annotations

import gzip
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from shuyuan import recipe as recipes
from shuyuan.data import byte_tokenizer, prepare
from shuyuan.errors import DataError
from shuyuan.planning.estimate import estimated_manifest
from shuyuan.progress import Progress
from shuyuan.recipe import Recipe
from shuyuan.vault import OpenStore

LINE = "The patient 病人 sleeps well, number {}.\n"


def write_lines(file: Path, count: int) -> Path:
    file.write_text("".join(LINE.format(number) for number in range(count)), encoding="utf-8")
    return file


def about(source: Path | str, tokenizer: dict[str, Any] | None = None, **data: Any) -> Recipe:
    table = {
        "data": {"source": str(source), "record": "line", **data},
        "tokenizer": tokenizer or {"kind": "byte"},
    }
    return recipes.from_table(table)


def test_a_small_source_is_known_exactly(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "notes.txt", 1000)
    guessed, notes = estimated_manifest(about(file, validation=0.2))
    text = file.stat().st_size - 1000  # without line ends, which each end token replaces
    assert guessed.vocab_size == 257
    assert guessed.tokens == pytest.approx(text + 1000, abs=2)
    assert guessed.splits["train"].tokens == pytest.approx(0.8 * (text + 1000), abs=2)
    assert guessed.splits["validation"].records == 200
    assert "guessed" in notes[0]


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_the_guess_is_near_what_preparation_finds(tmp_path: Path, kind: str) -> None:
    words = [word.strip() for word in Path(pytest.__file__).read_text(encoding="utf-8").split()]
    lines = [" ".join(words[at % len(words)] for at in range(k, k + 9)) + f" {k}" for k in range(1500)]
    (tmp_path / "notes.txt").write_text("\n".join(lines))
    recipe = about(tmp_path / "notes.txt", {"kind": kind, "vocab_size": 400}, duplicates="keep").replace(
        **{"model.context": 16}
    )
    (tmp_path / "run").mkdir()
    found = prepare(recipe, OpenStore(tmp_path / "run"), Progress())
    guessed, _ = estimated_manifest(recipe)
    assert guessed.tokens == pytest.approx(found.tokens, rel=0.4 if kind == "bpe" else 0.01)
    assert guessed.vocab_size == pytest.approx(found.vocab_size, rel=0.05)
    assert guessed.text_bytes == pytest.approx(found.text_bytes, rel=0.01)


def test_a_large_source_is_sampled(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "notes.txt", 60_000)
    guessed, _ = estimated_manifest(about(file))
    assert guessed.tokens == pytest.approx(file.stat().st_size, rel=0.15)
    assert guessed.records == pytest.approx(60_000, rel=0.15)


def test_compressed_text_counts_by_its_content(tmp_path: Path) -> None:
    plain = write_lines(tmp_path / "notes.txt", 60_000).read_bytes()
    (tmp_path / "notes.txt.gz").write_bytes(gzip.compress(plain))
    guessed, _ = estimated_manifest(about(tmp_path / "notes.txt.gz"))
    assert guessed.tokens == pytest.approx(len(plain), rel=0.25)


def test_only_the_text_column_counts(tmp_path: Path) -> None:
    rows = [{"note": "x" * 50, "other": "y" * 500, "n": number} for number in range(100)]
    (tmp_path / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    guessed, _ = estimated_manifest(
        recipes.from_table({"data": {"source": str(tmp_path / "notes.jsonl"), "text": "note"}})
    )
    assert guessed.tokens == pytest.approx(100 * 51, abs=3)


def test_separate_files_take_nothing_from_training(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "notes.txt", 100)
    other = write_lines(tmp_path / "held-out.txt", 100)
    guessed, _ = estimated_manifest(about(file, validation=str(other)))
    assert guessed.splits["train"].tokens == pytest.approx(file.stat().st_size, abs=2)


def test_a_given_tokenizer_is_asked(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "notes.txt", 100)
    (tmp_path / "tokenizer.json").write_text(byte_tokenizer().to_json())
    guessed, _ = estimated_manifest(about(file, {"from": str(tmp_path / "tokenizer.json")}))
    assert guessed.vocab_size == 257
    assert guessed.tokens == pytest.approx(file.stat().st_size, abs=2)


def test_a_source_on_the_hub_is_assumed_and_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a plan asks nobody outside this machine")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    guessed, notes = estimated_manifest(recipes.from_table({"data": {"source": "hf:someone/something"}}))
    assert guessed.tokens > 0
    assert "assumed" in notes[0] and "hf:someone/something" in notes[0]


def test_the_built_in_source_is_guessed() -> None:
    guessed, _ = estimated_manifest(recipes.from_table({"data": {"source": "stdlib"}}))
    assert 5e6 < guessed.splits["train"].tokens < 5e7


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        estimated_manifest(about(tmp_path / "nothing.txt"))


def test_an_empty_text_column_gives_no_tokens_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text('{"other": "x"}\n')
    for kind in ("byte", "char", "bpe"):
        guessed, _ = estimated_manifest(
            recipes.from_table(
                {"data": {"source": str(tmp_path / "notes.jsonl")}, "tokenizer": {"kind": kind}}
            )
        )
        assert guessed.tokens == 0
