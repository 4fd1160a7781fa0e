"""A real server on a loopback port, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from shuyuan.retrieval import is_index
from shuyuan.serve import Keys, open_state
from shuyuan.serve.app import Server, make_app
from shuyuan.serve.indexes import LoadedIndex
from shuyuan.serve.server import Listener
from shuyuan.serve.settings import Limits, Settings
from shuyuan.serve.shelf import Model, Shelf, models_in
from tests.serve import fake

MANY = Limits(requests_per_minute=10**6, tokens_per_minute=10**9, header_seconds=60)


@dataclass
class Response:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The project's code of an error, after its form was looked at."""
        table = self.json
        assert table.keys() == {"error"}
        assert table["error"].keys() == {"message", "type", "param", "code"}
        assert isinstance(table["error"]["message"], str)
        code: str = table["error"]["code"]
        return code


class Door:
    """A server to knock at.

    Args:
        address: http://HOST:PORT.
        server: its parts.
        runs: the fake runs, by model, that were loaded.
    """

    def __init__(
        self,
        port: int,
        app: FastAPI,
        runs: dict[str, fake.Run],
        state: Path,
        loop: asyncio.AbstractEventLoop,
        listener: Listener,
    ) -> None:
        self.port, self.app, self.runs, self.state = port, app, runs, state
        self.loop, self.listener = loop, listener
        self.server: Server = app.state.server
        self.address = f"http://127.0.0.1:{port}"

    def key(self, name: str = "someone", role: str = "user", **more: Any) -> str:
        """A new key, as `shuyuan users add` makes it from another process."""
        with closing(open_state(self.state)) as state:
            return Keys(state).add(name, role, **more)[1]

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """One request with a body of JSON, or of bytes as they are."""
        sent = {"Content-Type": "application/json"} if body is not None else {}
        sent |= {"Authorization": f"Bearer {key}"} if key is not None else {}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with closing(connection):
            connection.request(method, path, data, sent | (headers or {}))
            answer = connection.getresponse()
            return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def send(self, path: str, body: Any, key: str) -> socket.socket:
        """A connection that a request was sent on."""
        connection, content = self.connect(), json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        return connection

    def raw(self, *parts: bytes) -> bytes:
        """What comes back for bytes as they are, until the server closes or says no more for two seconds."""
        with self.connect() as connection:
            with suppress(OSError):
                for part in parts:
                    connection.sendall(part)
            return read_all(connection)

    def alive(self) -> bool:
        """Whether it still answers."""
        return self.ask("GET", "/healthz").status == 200

    def routes(self) -> list[APIRoute]:
        """Every route that the app really has."""
        return [route for route in self.app.routes if isinstance(route, APIRoute)]

    def wait(self, true: Callable[[], bool], seconds: float = 20.0) -> None:
        """Waits until something is so."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it did not come about"
            time.sleep(0.01)


def read_all(connection: socket.socket, seconds: float = 2.0) -> bytes:
    """All that comes until the other side closes or is silent for so long."""
    connection.settimeout(seconds)
    got = b""
    with suppress(OSError):
        while part := connection.recv(65536):
            got += part
    return got


class _Quiet(Listener):
    """Signals are those of the tests."""

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()


@contextmanager
def running(
    state: Path,
    models: Sequence[Model] | None = None,
    *,
    limits: Limits = MANY,
    task: str = "mixed",
    seconds: float = 0.0,
    engine: Callable[[], Any] | None = None,
    **settings: Any,
) -> Iterator[Door]:
    """A server while this lasts."""
    memory = settings.pop("shelf_bytes", None)
    runs: dict[str, fake.Run] = {}
    made = Settings(host="127.0.0.1", port=0, state=state, limits=limits, **settings)
    there = list(models or [fake.model(limits=limits, task=task)])

    def load(path: Path, *_: Any) -> Any:
        if path.name == "broken":
            raise RuntimeError("its weights are gone")
        if is_index(path):
            return LoadedIndex(path, None)
        run = fake.Run(next(each.task for each in there if each.path == path), seconds)
        if engine is not None:
            run.engine = engine()
        runs[path.name] = run
        return run

    with _listening(made, lambda: Shelf(there, memory, load), runs, state) as door:
        yield door


@contextmanager
def serving(state: Path, *runs: Path, **settings: Any) -> Iterator[Door]:
    """A server of real runs while this lasts."""
    made = Settings(host="127.0.0.1", port=0, state=state, limits=MANY, **settings)
    models = models_in(runs, None, MANY)
    with _listening(made, lambda: Shelf(models), {}, state) as door:
        yield door


def text_of_events(body: str) -> str:
    """All text of a streamed completion."""
    lines = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return "".join(choice["text"] for line in lines[:-1] for choice in json.loads(line)["choices"])


@contextmanager
def _listening(
    made: Settings, shelf: Callable[[], Shelf], runs: dict[str, fake.Run], state: Path
) -> Iterator[Door]:
    app = make_app(made, shelf)
    listener = _Quiet(app, made, lambda address: None)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(listener.serve()), daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not listener.started:
        assert time.monotonic() < end and thread.is_alive()
        time.sleep(0.005)
    port = listener.servers[0].sockets[0].getsockname()[1]
    try:
        yield Door(port, app.inner, runs, state, loop, listener)
    finally:
        listener.should_exit = True
        thread.join(40)
        loop.close()
        assert not thread.is_alive()
