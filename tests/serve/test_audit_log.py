"""The audit log: every request stands in it, and whoever changes it is found out."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shuyuan.errors import ServeError, VaultError
from shuyuan.serve import audit_log
from shuyuan.serve.audit_log import AuditLog, entries_of, verify
from tests.runs import shuyuan
from tests.serve import fake
from tests.serve.running import running


def written(state: Path, *rounds: int) -> Path:
    """A log with so many entries, written by one server after another."""
    for count in rounds:
        log = AuditLog(state)
        for number in range(count):
            log.add({"event": "request", "n": number})
            asyncio.run(log.settled())
        log.close()
    return state


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written(tmp_path, 3, 2)
    assert [entry.get("n") for entry in entries_of(tmp_path)] == [None, 0, 1, 2, 0, 1]
    assert [entry.get("n") for entry in AuditLog(tmp_path).recent] == [None, 0, 1, 2, 0, 1]
    told = verify(tmp_path)
    assert told["ok"] and len(told["head"]) == 64
    assert told.keys() == {"ok", "problems", "epsilon_recomputed", "head"}


def test_one_server_writes(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    with pytest.raises(ServeError, match=r"serve\.state-in-use"):
        AuditLog(tmp_path)
    log.close()
    AuditLog(tmp_path).close()


def test_nothing_of_it_is_in_the_clear(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.add({"event": "request", "content": "Zyzzogeton"})
    log.close()
    assert all(b"Zyzzogeton" not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_it_goes_on_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "ROTATE_BYTES", 300)
    written(tmp_path, 6, 6)
    files = sorted(path.name for path in (tmp_path / "audit").glob("*.log"))
    assert len(files) > 2
    assert verify(tmp_path)["ok"]
    numbers = [entry["n"] for entry in entries_of(tmp_path) if entry["event"] == "request"]
    assert numbers == [*range(6), *range(6)]
    for name in files:
        copy = tmp_path.with_name(f"without-{name}")
        shutil.copytree(tmp_path, copy)
        (copy / "audit" / name).unlink()
        assert not verify(copy)["ok"], name


def test_the_end_of_a_file_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the newest file's end is signed; of the others the next file knows it."""
    monkeypatch.setattr(audit_log, "ROTATE_BYTES", 300)
    written(tmp_path, 9)
    assert len(list((tmp_path / "audit").glob("*.log"))) > 2
    cut_last_line(tmp_path / "audit" / "audit-00002.log")
    assert not verify(tmp_path)["ok"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut_last_line(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: _ends(data)[-2]])


def swap_lines(path: Path) -> None:
    data = path.read_bytes()
    ends = _ends(data)
    one, other = data[ends[-3] : ends[-2]], data[ends[-2] : ends[-1]]
    path.write_bytes(data[: ends[-3]] + other + one)


def drop_a_line(path: Path) -> None:
    data = path.read_bytes()
    ends = _ends(data)
    path.write_bytes(data[: ends[-3]] + data[ends[-2] :])


def _ends(data: bytes) -> list[int]:
    """Where each line ends."""
    from shuyuan.vault.seal import HEADER_BYTES

    ends = [HEADER_BYTES]
    while ends[-1] < len(data):
        ends.append(ends[-1] + 8 + int.from_bytes(data[ends[-1] : ends[-1] + 4], "big"))
    return ends


@pytest.mark.parametrize("change", [flip, cut_last_line, swap_lines, drop_a_line, Path.unlink])
def test_changes_are_found(tmp_path: Path, change: Callable[[Path], Any]) -> None:
    written(tmp_path, 5)
    change(tmp_path / "audit" / "audit-00001.log")
    outcome = shuyuan("verify", tmp_path, "--json")
    assert outcome.status == 1
    assert outcome.json["problems"]
    if change is not Path.unlink:
        with pytest.raises(VaultError):
            AuditLog(tmp_path)


@pytest.mark.parametrize("change", [flip, Path.unlink])
def test_changes_of_the_head_are_found(tmp_path: Path, change: Callable[[Path], Any]) -> None:
    written(tmp_path, 5)
    change(tmp_path / "audit" / "audit.head")
    assert not verify(tmp_path)["ok"]
    with pytest.raises(VaultError):
        AuditLog(tmp_path)


def test_an_older_head_is_found(tmp_path: Path) -> None:
    head = written(tmp_path, 2) / "audit" / "audit.head"
    old = head.read_bytes()
    written(tmp_path, 3)
    head.write_bytes(old)
    assert not verify(tmp_path)["ok"]


@pytest.mark.parametrize("rotate", [audit_log.ROTATE_BYTES, 300])
def test_a_server_at_work_is_no_finding(rotate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written between looking at the signed head and reading the lines."""
    monkeypatch.setattr(audit_log, "ROTATE_BYTES", rotate)
    written(tmp_path, 2)
    log, real = AuditLog(tmp_path), audit_log._opened

    def writing_meanwhile(*arguments: Any) -> Any:
        for number in range(4):
            log.add({"event": "request", "n": number})
            asyncio.run(log.settled())
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(audit_log, "_opened", writing_meanwhile)
        assert verify(tmp_path)["problems"] == []
        numbers = [entry["n"] for entry in entries_of(tmp_path) if entry["event"] == "request"]
    assert numbers[:6] == [0, 1, *range(4)]
    head = tmp_path / "audit" / "audit.head"
    old = head.read_bytes()
    log.close()
    written(tmp_path, 3)
    head.write_bytes(old)
    assert not verify(tmp_path)["ok"]


def test_an_older_folder_is_found_by_a_noted_head(tmp_path: Path) -> None:
    written(tmp_path / "s", 2)
    shutil.copytree(tmp_path / "s", tmp_path / "old")
    written(tmp_path / "s", 2)
    noted = verify(tmp_path / "s")["head"]
    assert verify(tmp_path / "s", expect=noted)["ok"]
    assert verify(tmp_path / "old")["ok"]  # by itself it is whole
    assert not verify(tmp_path / "old", expect=noted)["ok"]


def test_a_crash_at_any_moment_leaves_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each state that a kill can leave on disk: a line without its head, half a line, a file without its head."""
    written(tmp_path, 3)
    log, head = tmp_path / "audit" / "audit-00001.log", tmp_path / "audit" / "audit.head"
    old = head.read_bytes()
    written(tmp_path, 1)
    head.write_bytes(old)  # the line was written, and its head was not
    assert verify(tmp_path)["ok"]
    written(tmp_path, 1)
    log.write_bytes(log.read_bytes() + b"\0\0\0\x60\xff\xff\xff\x9fhalf")
    assert verify(tmp_path)["ok"]
    written(tmp_path, 1)
    assert verify(tmp_path)["ok"]
    old = head.read_bytes()
    monkeypatch.setattr(audit_log, "ROTATE_BYTES", 1)
    written(tmp_path, 1)
    second = tmp_path / "audit" / "audit-00002.log"
    data = second.read_bytes()
    for left in (data[: _ends(data)[1]], data[:76], data[:10], b""):
        second.write_bytes(left)
        head.write_bytes(old)
        written(tmp_path, 0)
        assert verify(tmp_path)["ok"], len(left)


def test_the_command_shows_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "RECENT", 2)
    log = AuditLog(written(tmp_path, 5))
    log.add({"event": "key.revoke", "who": "root", "key": "li\x1b[2J\nx"})
    asyncio.run(log.settled())
    outcome = shuyuan("users", "log", "--state", tmp_path, "--json")  # while the server is at work
    assert outcome.json == {"entries": list(entries_of(tmp_path))}
    assert len(outcome.json["entries"]) == 7
    log.close()
    lines = shuyuan("users", "log", "--state", tmp_path).stdout.splitlines()
    assert len(lines) == 7 and "request" in lines[1] and lines[1].endswith("n=0")
    assert lines[-1].endswith("key=li⟨U+001B⟩[2J\\nx") and "root" in lines[-1]
    cut_last_line(tmp_path / "audit" / "audit-00001.log")
    broken = shuyuan("users", "log", "--state", tmp_path, "--json")
    assert (broken.status, broken.json["error"]["code"]) == (1, "serve.audit-broken")
    assert (
        shuyuan("users", "log", "--state", tmp_path / "none", "--json").json["error"]["code"]
        == "serve.no-audit-log"
    )


def test_another_key(tmp_path: Path) -> None:
    place = f"file:{tmp_path / 'elsewhere' / 'audit.key'}"
    from shuyuan.vault import write_key_file

    write_key_file(tmp_path / "elsewhere" / "audit.key")
    AuditLog(tmp_path / "s", place).close()
    assert not (tmp_path / "s" / "audit.key").exists()
    assert verify(tmp_path / "s", place)["ok"]
    written(tmp_path / "t", 1)
    assert not verify(tmp_path / "t", place)["ok"]
    (tmp_path / "t" / "audit.key").unlink()
    with pytest.raises(VaultError, match=r"serve\.no-audit-key"):
        AuditLog(tmp_path / "t")


def test_requests_stand_in_it(tmp_path: Path) -> None:
    with running(tmp_path) as door:
        key, admin = door.key("li"), door.key("root", "admin")
        body = {"model": "demo", "prompt": "A secret.", "temperature": 0}
        door.ask("POST", "/v1/completions", body, key)
        told = [entry for entry in entries_of(tmp_path) if entry["event"] == "request"]
        assert len(told) == 1  # it is on disk before the answer is given
        door.ask("POST", "/v1/completions", {**body, "stream": True}, key)
        door.ask("POST", "/v1/completions", {**body, "prompt": fake.BREAKS}, key)
        door.ask("DELETE", "/admin/keys/li", key=admin)
        shown = door.ask("GET", "/admin/audit", key=admin).json["entries"]
    assert [(e["event"], e["who"]) for e in shown[:4]] == [("key.revoke", "root"), *[("request", "li")] * 3]
    assert [e["decision"] for e in shown[1:4]] == ["serve.model-failed", "answered", "answered"]
    assert shown[3].keys() == {
        "time",
        "event",
        "who",
        "key",
        "model",
        "route",
        "prompt_tokens",
        "completion_tokens",
        "decision",
    }
    assert list(reversed(shown)) == list(entries_of(tmp_path))[1:]  # the first says that the log begins
    assert verify(tmp_path)["ok"]


def test_content_stands_in_it_if_the_operator_asks(tmp_path: Path) -> None:
    with running(tmp_path, audit_content=True) as door:
        body = {"model": "demo", "prompt": "A secret.", "temperature": 0}
        door.ask("POST", "/v1/completions", body, door.key())
    (entry,) = [entry for entry in entries_of(tmp_path) if entry["event"] == "request"]
    assert entry["content"] == {"asked": body, "answered": ["A secret."]}


def test_nothing_is_answered_that_is_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path) as door:
        key = door.key()
        body = {"model": "demo", "prompt": "A secret.", "temperature": 0}
        assert door.ask("POST", "/v1/completions", body, key).status == 200

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(door.server.audit, "_write", full)
        lost = door.ask("POST", "/v1/completions", body, key)
        assert (lost.status, lost.code) == (500, "serve.no-audit")
        assert b"A secret." not in lost.body
        for stream in (False, True):
            assert (
                door.ask("POST", "/v1/completions", {**body, "stream": stream}, key).code == "serve.no-audit"
            )
        assert door.ask("GET", "/readyz").status == 503
        assert door.ask("GET", "/healthz").status == 200
