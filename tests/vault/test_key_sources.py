"""Where keys come from, and what is refused before anything is opened."""

from __future__ import annotations

import getpass
import os
import stat
import string
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuyuan import vault
from shuyuan.errors import MachineError, VaultError
from shuyuan.vault.keys import PREFIX, read_secret, render_key


@given(
    bits=st.binary(min_size=32, max_size=32),
    place=st.integers(0, 55),
    other=st.sampled_from("ABCDEFGH234567"),
)
def test_a_mistyped_key_string_is_noticed(bits: bytes, place: int, other: str) -> None:
    text = render_key(bits)
    os.environ["VAULT_TEST_KEY"] = f"  {text.lower()}\n"
    assert read_secret("env:VAULT_TEST_KEY").value == bits
    packed = text.removeprefix(PREFIX).replace("-", "")
    wrong = PREFIX + packed[:place] + other + packed[place + 1 :]
    os.environ["VAULT_TEST_KEY"] = wrong
    if packed[place] != other:
        with pytest.raises(VaultError, match="misspelt-key"):
            read_secret("env:VAULT_TEST_KEY")
    del os.environ["VAULT_TEST_KEY"]


@pytest.mark.parametrize("text", ["SYK1-", "SYK1-AAAA", "syk1-!!!!", "SYK1-" + "A" * 57, "SYK1-" + "字" * 56])
def test_what_begins_like_a_key_string_is_never_a_passphrase(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("K", text)
    with pytest.raises(VaultError, match="misspelt-key"):
        read_secret("env:K")


def test_new_keys_differ_and_are_readable() -> None:
    keys = {vault.new_key() for _ in range(20)}
    assert len(keys) == 20
    assert all(set(key.removeprefix(PREFIX)) <= set(string.ascii_uppercase + "234567-") for key in keys)


def test_a_key_file_is_its_owners(tmp_path: Path) -> None:
    file = vault.write_key_file(tmp_path / "deep" / "er" / "demo.key")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    with pytest.raises(VaultError, match="key-exists"):
        vault.write_key_file(file)
    assert file.read_bytes() == before
    assert read_secret(f"file:{file}").kind == "key"
    (tmp_path / "folder").mkdir()
    with pytest.raises((MachineError, VaultError)):
        vault.write_key_file(tmp_path / "folder")


@pytest.mark.parametrize(("mode", "fine"), [(0o600, True), (0o400, True), (0o440, True), (0o640, True), (0o604, False), (0o660, False), (0o644, False), (0o602, False)])  # fmt: skip
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int, fine: bool) -> None:
    file = vault.write_key_file(tmp_path / "demo.key")
    file.chmod(mode)
    if fine:
        read_secret(f"file:{file}")
    else:
        with pytest.raises(VaultError, match=r"chmod 600.*exposed-key"):
            read_secret(f"file:{file}")


def test_a_key_inside_the_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    inside = vault.write_key_file(tmp_path / "run" / "demo.key")
    (tmp_path / "link").symlink_to(inside)
    for path in (inside, tmp_path / "link"):
        with pytest.raises(VaultError, match="key-inside"):
            read_secret(f"file:{path}", run=tmp_path / "run")


def test_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pass").write_text("  correct horse \n")
    (tmp_path / "pass").chmod(0o600)
    monkeypatch.setenv("K", "correct horse")
    monkeypatch.setattr(getpass, "getpass", lambda prompt: "correct horse ")
    found = [
        read_secret(spec)
        for spec in ("env:K", f"file:{tmp_path}/pass", "command:echo ' correct horse'", "prompt")
    ]
    assert {(secret.kind, secret.value) for secret in found} == {("passphrase", b"correct horse")}
    assert "horse" not in repr([secret for secret in found if not secret.spec.startswith("command")])


def test_the_same_passphrase_however_it_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "café 书院院长")
    monkeypatch.setenv("B", "cafe\u0301 书院院长")
    assert read_secret("env:A").value == read_secret("env:B").value


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("env:NOT_SET_AT_ALL", "vault.no-key"),
        ("env:EMPTY", "vault.empty-key"),
        ("file:/nowhere/key", "vault.no-key"),
        ("file:.", "vault.no-key"),
        ("command:exit 3", "vault.no-key"),
        ("command:true", "vault.empty-key"),
        ("command:no-such-program-here 2>/dev/null", "vault.no-key"),
        ("command:printf '\\377'", "vault.no-key"),
        ("env:", "vault.bad-key-place"),
        ("correct horse", "vault.bad-key-place"),
        ("", "vault.bad-key-place"),
    ],
)
def test_no_key_is_said_clearly(monkeypatch: pytest.MonkeyPatch, spec: str, code: str) -> None:
    monkeypatch.setenv("EMPTY", " \n")
    with pytest.raises(VaultError) as caught:
        read_secret(spec)
    assert caught.value.code == code
    assert caught.value.mend
    assert spec != "correct horse" or "correct horse" not in str(caught.value)  # it may be the key itself


def test_files_that_are_no_keys(tmp_path: Path) -> None:
    for content in (b"\xff\xfe", b"a" * 70_000):
        (tmp_path / "key").write_bytes(content)
        (tmp_path / "key").chmod(0o600)
        with pytest.raises(VaultError, match="not-a-key"):
            read_secret(f"file:{tmp_path}/key")


def test_a_new_passphrase_is_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["correct horse", "correct hose"]
    monkeypatch.setattr(getpass, "getpass", lambda prompt: answers.pop(0))
    with pytest.raises(VaultError, match="not-the-same"):
        read_secret("prompt", confirm=True)
    answers[:] = ["short", "short"]
    with pytest.raises(VaultError, match="short-passphrase"):
        read_secret("prompt", confirm=True)


def _no_terminal(prompt: str) -> str:
    raise EOFError


def test_no_terminal_to_ask_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getpass", _no_terminal)
    with pytest.raises(VaultError, match="no-terminal"):
        read_secret("prompt")


def test_a_slow_command_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault.keys, "COMMAND_SECONDS", 0.2)
    with pytest.raises(VaultError, match="longer"):
        read_secret("command:sleep 5")


def test_no_key_in_any_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", "SYK1-hunter2hunter2")
    attempts: list[Callable[[], object]] = [
        lambda: read_secret("env:K"),
        lambda: read_secret("command:printf hunter2; exit 1"),
        lambda: read_secret("command:printf 'hunter2\\377'"),
    ]
    for attempt in attempts:
        with pytest.raises(VaultError) as caught:
            attempt()
        shown = "".join(traceback.format_exception(caught.value))
        assert "hunter2" not in shown.replace("printf hunter2", "").replace("printf 'hunter2", "")
