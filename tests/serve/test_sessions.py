"""Login of browsers: a cookie that no script reads, and a token that no other page knows."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from shuyuan.errors import ServeError
from shuyuan.serve import Keys, open_state
from shuyuan.serve.sessions import SECONDS, Sessions
from shuyuan.serve.settings import Limits
from tests.serve.running import Door, running


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with running(tmp_path_factory.mktemp("state")) as opened:
        yield opened


@pytest.fixture(scope="module")
def root(door: Door) -> str:
    return door.key("root", "admin")


def login(door: Door, key: str) -> tuple[str, str]:
    """The cookie and the token of a new session."""
    answer = door.ask("POST", "/session", {"key": key})
    assert answer.status == 200
    (cookie,) = re.findall(r"^(shuyuan_session=[^;]+);", answer.headers["set-cookie"])
    return cookie, answer.json["token"]


def test_the_cookie(door: Door) -> None:
    answer = door.ask("POST", "/session", {"key": door.key("cookie")})
    flags = answer.headers["set-cookie"].lower()
    assert "httponly" in flags and "samesite=strict" in flags and "path=/" in flags
    assert answer.json.keys() == {"name", "role", "token"}


def test_logins_are_counted_as_requests(tmp_path: Path) -> None:
    with running(tmp_path, limits=Limits(requests_per_minute=3)) as one:
        key = one.key()
        statuses = [one.ask("POST", "/session", {"key": key}).status for _ in range(5)]
        assert statuses == [200] * 3 + [429] * 2


def test_a_session_is_its_key(door: Door) -> None:
    cookie, token = login(door, door.key("li", models=["demo"]))
    assert door.ask("GET", "/session", headers={"Cookie": cookie}).json == {
        "name": "li",
        "role": "user",
        "token": token,
    }
    assert door.ask("GET", "/v1/models", headers={"Cookie": cookie}).status == 200
    assert door.ask("GET", "/admin/keys", headers={"Cookie": cookie}).status == 403
    body = {"model": "demo", "prompt": "x", "temperature": 0}
    fine = {"Cookie": cookie, "X-CSRF-Token": token}
    assert door.ask("POST", "/v1/completions", body, headers=fine).status == 200
    door.server.keys.revoke("li")
    assert door.ask("GET", "/v1/models", headers={"Cookie": cookie}).status == 401


@pytest.mark.parametrize("token", [None, "", "wrong", "0" * 64, "\xe9"])
def test_a_page_of_others_changes_nothing(door: Door, root: str, token: str | None) -> None:
    cookie, _ = login(door, root)
    headers = {"Cookie": cookie} | ({} if token is None else {"X-CSRF-Token": token})
    for method, path in (
        ("POST", "/v1/completions"),
        ("POST", "/admin/keys"),
        ("DELETE", "/admin/keys/li"),
        ("DELETE", "/session"),
    ):
        answer = door.ask(method, path, {} if method == "POST" else None, headers=headers)
        assert (answer.status, answer.code) == (403, "serve.no-token")


def test_a_token_of_another_session(door: Door) -> None:
    key = door.key("two")
    (cookie, token), (_, other) = login(door, key), login(door, key)
    assert token != other
    headers = {"Cookie": cookie, "X-CSRF-Token": other}
    assert door.ask("DELETE", "/session", headers=headers).code == "serve.no-token"


def test_logout(door: Door) -> None:
    cookie, token = login(door, door.key("leaves"))
    assert door.ask("DELETE", "/session", headers={"Cookie": cookie, "X-CSRF-Token": token}).status == 200
    assert door.ask("GET", "/session", headers={"Cookie": cookie}).status == 401


def test_who_has_no_key_gets_no_session(door: Door) -> None:
    for key in ("", "wrong", "sk-" + "0" * 16 + "-" + "A" * 43):
        answer = door.ask("POST", "/session", {"key": key})
        assert (answer.status, answer.code) == (401, "serve.no-key")
        assert "set-cookie" not in answer.headers
    assert door.ask("POST", "/session", {"key": "x" * 10_000}).code == "serve.too-large"
    for cookie in ("shuyuan_session=", "shuyuan_session=wrong", "shuyuan_session=\xff", "x"):
        assert door.ask("GET", "/v1/models", headers={"Cookie": cookie}).status == 401


def test_sessions_end(tmp_path: Path) -> None:
    now = [1000.0]
    state: sqlite3.Connection = open_state(tmp_path)
    keys = Keys(state, lambda: now[0])
    key, _ = keys.add("li", "user")
    sessions = Sessions(state, keys, lambda: now[0])
    text = sessions.begin(key)
    assert sessions.check(text) == key
    assert text.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    now[0] += SECONDS
    with pytest.raises(ServeError, match=r"serve\.no-key"):
        sessions.check(text)
    sessions.begin(key)
    assert state.execute("SELECT COUNT(*) FROM sessions").fetchone() == (1,)  # old ones are taken away
    state.close()
