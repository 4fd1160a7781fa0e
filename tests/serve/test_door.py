"""Names and pages of others are refused; every response says how browsers are to treat it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.running import Door, running


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with running(tmp_path_factory.mktemp("state"), hosts=("models.example.org",)) as opened:
        yield opened


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1:80", "LOCALHOST:1", "[::1]:9", "192.168.3.4", "models.example.org", "[::1]"],
)
def test_its_own_names(door: Door, host: str) -> None:
    assert door.ask("GET", "/healthz", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "localhost@evil", "[", "1", "a:b:c", "x" * 5000, "models.example.org.", "127.1"]
)  # fmt: skip
def test_names_of_others(door: Door, host: str) -> None:
    answer = door.ask("GET", "/healthz", headers={"Host": host})
    assert (answer.status, answer.code) == (400, "serve.other-host")


def test_two_names_or_none(door: Door) -> None:
    assert door.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n").startswith(
        b"HTTP/1.1 400"
    )
    assert door.raw(b"GET /healthz HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert door.raw(b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_pages_of_others(door: Door) -> None:
    mine = f"127.0.0.1:{door.port}"
    for origin in (f"http://{mine}", f"https://{mine}"):
        assert door.ask("GET", "/healthz", headers={"Origin": origin}).status == 200
    for origin in (
        "null",
        "",
        "http://evil.example",
        f"http://{mine}.evil.example",
        f"http://evil@{mine}",
        f"http://localhost:{door.port}",
        "file://",
    ):
        answer = door.ask("GET", "/healthz", headers={"Origin": origin})
        assert (answer.status, answer.code) == (403, "serve.other-origin")


def test_no_page_of_others_is_let_read(door: Door) -> None:
    answer = door.ask("OPTIONS", "/v1/chat/completions", headers={"Access-Control-Request-Method": "POST"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_headers_of_every_response(door: Door) -> None:
    for answer in (
        door.ask("GET", "/healthz"),
        door.ask("GET", "/nothing"),
        door.ask("GET", "/v1/models"),
        door.ask("GET", "/healthz", headers={"Host": "evil"}),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


def test_what_nobody_foresaw_is_told_without_its_words(
    door: Door, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They could quote a prompt."""

    def broken() -> bytes:
        raise RuntimeError("words of a prompt")

    monkeypatch.setattr(door.server.metrics, "render", broken)
    answer = door.ask("GET", "/metrics", key=door.key("unlucky", "admin"))
    assert (answer.status, answer.code) == (500, "internal.unexpected")
    door.wait(lambda: "unexpected RuntimeError" in caplog.text)
    assert "prompt" not in caplog.text and b"prompt" not in answer.body


def test_an_open_server_administers_nothing(tmp_path: Path) -> None:
    with running(tmp_path, insecure_open=True) as door:
        body = {"model": "demo", "prompt": "x", "temperature": 0}
        assert door.ask("POST", "/v1/completions", body).status == 200
        assert door.runs["demo"].engine.seen[-1].settings["tenant"] is None
        assert door.ask("GET", "/admin/keys").status == 403
        assert door.ask("GET", "/admin/keys", key="wrong").status == 401
        assert door.ask("GET", "/admin/keys", key=door.key("a", "admin")).status == 200


def test_metrics_and_health(door: Door) -> None:
    key = door.key("metrics", "admin")
    door.ask("POST", "/v1/completions", {"model": "demo", "prompt": "abc", "temperature": 0}, key)
    text = door.ask("GET", "/metrics", key=key).body.decode()
    assert 'shuyuan_tokens_total{kind="completion",model="demo"} 3.0' in text
    assert 'shuyuan_responses_total{route="/v1/completions",status="200"} 1.0' in text
    assert 'shuyuan_active{model="demo"} 0.0' in text
    assert "shuyuan_first_token_seconds_count" in text
    assert door.ask("GET", "/readyz").json == {"status": "ok"}
    (line,) = door.ask("GET", "/admin/usage", key=key).json["usage"]
    assert (line["name"], line["requests"], line["completion_tokens"]) == ("metrics", 1, 3)
