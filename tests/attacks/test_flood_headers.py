"""Exploit: headers without end, lines that are no HTTP, and methods that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serve.running import running


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
        b"\0" * 100_000,
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\tc\0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: localhost\r\nX\r\n\r\n",
        b"\r\n" * 50_000,
    ],
)
def test_what_is_no_request(tmp_path: Path, sent: bytes) -> None:
    with running(tmp_path) as door:
        answer = door.raw(sent)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
        if answer:
            assert b'"serve.' in answer
        assert door.alive()


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT", b"BREW", b"A" * 1000, b"get"])
def test_methods(tmp_path: Path, method: bytes) -> None:
    with running(tmp_path) as door:
        answer = door.raw(method + b" /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 4")
        assert door.alive()


def test_an_upgrade_is_not_taken(tmp_path: Path) -> None:
    with running(tmp_path) as door:
        sent = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n"
        assert door.raw(sent).startswith(b"HTTP/1.1 401")
