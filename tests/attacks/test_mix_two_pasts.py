"""Exploit: restore a copy of the folder, let work go on twice, and mix the two runs that come of it."""

from __future__ import annotations

from shuyuan import vault
from tests.vault.tampering import put, snapshot

from .conftest import Target


def go_on(target: Target, word: bytes) -> dict[str, bytes]:
    """Does the same steps with other content; returns the folder."""
    with vault.open_store(target.run, target.key) as store:
        store.write("scores.json", word)
        store.journal("metrics.jsonl").append({"word": word.decode()})
        store.write_open("report.html", word)
    return snapshot(target.run.path)


def test_no_file_of_the_one_fits_the_other(target: Target) -> None:
    start = snapshot(target.run.path)
    one = go_on(target, b"one")
    put(target.run.path, start)
    two = go_on(target, b"two")
    tried = 0
    for name, content in one.items():
        if two.get(name) != content:
            put(target.run.path, two)
            (target.run.path / name).write_bytes(content)
            # Of index and head, which only do not fit each other, the head is named, and the words name both.
            assert target.problems() == ["vault-1.head" if name == "vault-1.index" else name]
            tried += 1
    assert tried == 5  # scores, journal, report, index, head
    put(target.run.path, two)
    head_of_one = _head(target, one)
    put(target.run.path, two)
    assert [problem.file for problem in vault.verify_run(target.run, target.key, head_of_one)[0]] == [
        "vault-1.index"
    ]


def _head(target: Target, files: dict[str, bytes]) -> str:
    put(target.run.path, files)
    return target.open().head()
