"""Exploit: search the disk, the errors and the tracebacks of a sealed run for what was put into it."""

from __future__ import annotations

import base64
import traceback
from pathlib import Path

import pytest

from shuyuan import vault
from shuyuan.errors import ShuyuanError
from shuyuan.runs import Run
from tests.vault.crashes import at_every_step
from tests.vault.tampering import place

CANARY = "Zyzzogeton-7431"


def traces(folder: Path) -> list[str]:
    """Where the canary, or a telling half of it, can be found."""
    needles = [
        form.encode(code) for form in (CANARY, CANARY[:8], CANARY[8:]) for code in ("utf-8", "utf-16-le")
    ]
    needles += [base64.b64encode(CANARY.encode())[:12], CANARY.encode().hex().encode(), CANARY[::-1].encode()]
    found = []
    for file in folder.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        if any(needle in file.name.encode() or needle in content for needle in needles):
            found.append(str(file))
    return found


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("THE_KEY", vault.new_key())
    return Run(tmp_path / "run")


def work(run: Run) -> None:
    """Puts the canary wherever it can be put: content and names of files, folders' files, journals, what is broken off."""
    text = f"a record says {CANARY}. ".encode()
    with vault.open_store(run, "env:THE_KEY", create=True) as store:
        for size in (1, 3000):
            store.write(f"data/{CANARY}.shard", text * size)
            store.write(CANARY, text)
            with store.folder(f"checkpoints/{CANARY}") as folder:
                folder.write(CANARY, text * size)
            store.journal("metrics.jsonl").append({CANARY: CANARY})
            with pytest.raises(KeyboardInterrupt), store.writer("samples.json") as out:
                out.write(text * size)
                raise KeyboardInterrupt
        store.remove(CANARY)


def test_nothing_is_found_at_any_moment(run: Run, tmp_path: Path) -> None:
    found: set[str] = set()
    with at_every_step(lambda step: found.update(traces(tmp_path))):
        work(run)
    assert not found
    assert not traces(tmp_path)


def test_the_search_would_find_it(tmp_path: Path) -> None:
    (tmp_path / "leak").write_bytes(b"x" * 1000 + CANARY.encode("utf-16-le"))
    (tmp_path / f"{CANARY[:8]}.txt").touch()
    assert len(traces(tmp_path)) == 2


def test_no_error_says_it(run: Run, tmp_path: Path) -> None:
    work(run)
    store = vault.open_store(run, "env:THE_KEY", writable=False)
    said = []
    for name in store.names():
        for damage in (slice(0, 1), slice(100, 101), slice(-1, None)):
            file = place(store, name)  # type: ignore[arg-type]
            whole = file.read_bytes()
            spoiled = bytearray(whole)
            spoiled[damage] = bytes(byte ^ 1 for byte in spoiled[damage])
            file.write_bytes(spoiled)
            try:
                list(store.journal(name).entries()) if name.endswith(".jsonl") else store.read(name)
            except ShuyuanError as error:
                said += [*traceback.format_exception(error), str(error.as_dict())]
            file.write_bytes(whole)
    text = (
        "".join(said)
        .replace(f"data/{CANARY}.shard", "NAME")
        .replace(f"checkpoints/{CANARY}/{CANARY}", "NAME")
    )
    assert len(said) > 6
    assert CANARY not in text  # names are said, content never is
