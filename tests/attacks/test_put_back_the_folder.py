"""Exploit: put the whole folder, or index and head together, back to an older state."""

from __future__ import annotations

from shuyuan import vault
from tests.vault.tampering import put, snapshot

from .conftest import Target


def test_a_noted_head_finds_an_older_folder(target: Target) -> None:
    for past in target.past[:-1]:
        put(target.run.path, past)
        assert target.problems() == []  # whole in itself: nothing inside the folder can tell
        problems, _ = vault.verify_run(target.run, target.key, target.heads[-1])
        assert [problem.file for problem in problems] == ["vault-1.index"]
        assert "older" in problems[0].what


def test_heads_of_the_past_are_still_true(target: Target) -> None:
    for head in target.heads:
        assert vault.verify_run(target.run, target.key, f" {head.upper()}\n") == ([], target.heads[-1])
    for wrong in ("", "00", "0" * 64, "x"):
        assert vault.verify_run(target.run, target.key, wrong)[0]


def test_index_and_head_together(target: Target) -> None:
    """The other files give it away: the older index knows neither them nor their newest lines."""
    now = snapshot(target.run.path)
    for past in target.past[:-2]:  # the last but one is as a crash in the closing leaves it
        for name in ("vault-1.index", "vault-1.head"):
            (target.run.path / name).write_bytes(past[name])
        assert target.problems()
        assert vault.verify_run(target.run, target.key, target.heads[-1])[0]
        put(target.run.path, now)
