"""Exploit: many connections that send a byte now and then, so that no other finds a place (slow-loris)."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path

from shuyuan.serve.settings import Limits
from tests.serve.running import read_all, running

LIMITS = Limits(header_seconds=1.0)


def test_connections_whose_headers_never_end(tmp_path: Path) -> None:
    with running(tmp_path, limits=LIMITS) as door:
        slow = [door.connect() for _ in range(100)]
        for connection in slow:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ")
        end = time.monotonic() + 4
        while time.monotonic() < end:  # a byte now and then does not make the time longer
            for connection in slow:
                with suppress(OSError):
                    connection.send(b"a")
            assert door.alive()
            time.sleep(0.25)
        assert [read_all(connection, 5) for connection in slow] == [b""] * 100
        for connection in slow:
            connection.close()


def test_connections_that_say_nothing(tmp_path: Path) -> None:
    with running(tmp_path, limits=LIMITS) as door, door.connect() as silent:
        silent.settimeout(20)
        with suppress(ConnectionResetError):
            assert silent.recv(1) == b""


def test_a_connection_that_is_slow_the_second_time(tmp_path: Path) -> None:
    with running(tmp_path, limits=LIMITS) as door, door.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        began = time.monotonic()
        read_all(connection, 20)
        assert time.monotonic() - began < 15


def test_more_connections_than_there_may_be(tmp_path: Path) -> None:
    limits = Limits(connections=20, header_seconds=60)
    with running(tmp_path, limits=limits) as door:
        held: list[socket.socket] = []
        for _ in range(60):
            with suppress(OSError):
                held.append(door.connect())
        time.sleep(0.5)
        assert len(door.listener.server_state.connections) <= 21
        assert all(door.alive() for _ in range(5))  # those that say nothing keep nobody out
        for connection in held:
            connection.close()
        door.wait(lambda: not door.listener.server_state.connections)
        assert door.alive()
