"""Exploit: a body that comes a byte at a time, or goes on after the answer; a client that reads nothing of what it asked for."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from pathlib import Path

from shuyuan.serve.settings import Limits
from tests.serve.running import read_all, running


def head(key: str, length: int) -> bytes:
    return (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def test_a_body_that_takes_for_ever(tmp_path: Path) -> None:
    with running(tmp_path, limits=Limits(body_seconds=1.0)) as door, door.connect() as slow:
        slow.sendall(head(door.key(), 10_000))
        for _ in range(8):
            with suppress(OSError):
                slow.send(b" ")
            time.sleep(0.25)
        answer = read_all(slow, 10)
        assert answer.startswith(b"HTTP/1.1 408") and b"serve.slow-body" in answer


def test_a_stranger_s_body_is_not_waited_for(tmp_path: Path) -> None:
    with running(tmp_path) as door, door.connect() as stranger:
        stranger.sendall(head("wrong", 10**9))
        answer = stranger.recv(4096)
        assert answer.startswith(b"HTTP/1.1 401")
        end = time.monotonic() + 20
        try:
            while time.monotonic() < end:
                stranger.sendall(b" " * 1000)
                time.sleep(0.05)
        except OSError:
            return
        raise AssertionError("the server goes on to read what nobody asked for")


def test_a_client_that_reads_nothing(tmp_path: Path) -> None:
    """What it was sent fills the buffers, and then its request is given up."""
    limits = Limits(send_seconds=1.0, longest_output=10**6, tokens_per_minute=10**9)
    with running(tmp_path, limits=limits) as door:
        key = door.key()
        body = {"model": "demo", "prompt": "x" * 400, "n": 16, "stream": True, "max_tokens": 100}
        body |= {"temperature": 0, "logprobs": 5}
        content = json.dumps(body).encode()
        door.ask("GET", "/v1/models", key=key)
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        deaf.connect(("127.0.0.1", door.port))
        deaf.sendall(head(key, len(content)) + content)
        model = door.server.shelf.find("demo")
        door.wait(lambda: model.users == 1)
        door.wait(lambda: model.users == 0, 60)
        assert model.line.free == model.line.places
        assert door.alive()
        deaf.close()
