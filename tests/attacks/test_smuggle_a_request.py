"""Exploit: a length that lies, so that the end of one request is read as the beginning of another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.serve.running import Door, running

HIDDEN = b"GET /admin/keys HTTP/1.1\r\nHost: localhost\r\n\r\n"


def sent(door: Door, key: str, *headers: str, body: bytes) -> bytes:
    lines = ["POST /v1/completions HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}"]
    lines += ["Content-Type: application/json", *headers, "", ""]
    return door.raw("\r\n".join(lines).encode() + body)


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", "Content-Length: 80"),
        ("Content-Length: -1",),
        ("Content-Length: 5 5",),
        ("Content-Length: +5",),
        ("Content-Length: 0x5",),
        ("Content-Length: " + "9" * 400,),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    ],
)
def test_two_lengths_or_none(tmp_path: Path, headers: tuple[str, ...]) -> None:
    with running(tmp_path) as door:
        answer = sent(door, door.key(), *headers, body=b"0\r\n\r\n" + HIDDEN)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        assert answer.count(b"HTTP/1.1 200") == 0
        assert door.alive()


def test_a_length_that_is_too_short_or_too_long(tmp_path: Path) -> None:
    with running(tmp_path) as door:
        key = door.key()
        body = json.dumps({"model": "demo", "prompt": "x", "temperature": 0}).encode()
        short = sent(door, key, f"Content-Length: {len(body) - 5}", body=body)
        assert b"serve.no-json" in short and b"HTTP/1.1 200" not in short
        long = sent(door, key, f"Content-Length: {len(body) + 5}", body=body)
        assert b"HTTP/1.1 200" not in long
        chunks = b"%x\r\n%s\r\nzz\r\n" % (len(body), body)
        assert b"HTTP/1.1 200" not in sent(door, key, "Transfer-Encoding: chunked", body=chunks)
        assert door.alive()
        model = door.server.shelf.find("demo")
        door.wait(lambda: model.users == 0)


def test_what_follows_is_asked_for_a_key_again(tmp_path: Path) -> None:
    with running(tmp_path) as door:
        body = json.dumps({"model": "demo", "prompt": "x", "temperature": 0}).encode()
        answer = sent(door, door.key("root", "admin"), f"Content-Length: {len(body)}", body=body + HIDDEN)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b"HTTP/1.1 401") == 1
