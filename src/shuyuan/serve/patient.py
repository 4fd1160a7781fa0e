"""HTTP/1.1 that has patience with slow clients, but not without end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from . import problems
from .settings import Limits

NO_HTTP = problems.table(400, "serve.no-http", "This is no HTTP/1.1 request that is taken here.")
LINGER_SECONDS = 1.0  # for an answer that is still on its way to somebody who sends on


class Patient(H11Protocol):
    """One connection. uvicorn's own waits for headers as long as a byte comes now and then.

    Args:
        limits: how long it waits, and how many connections there are.
        more: as uvicorn gives it.
    """

    def __init__(self, *, limits: Limits, **more: Any) -> None:
        super().__init__(**more)
        self._limits = limits
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_headers()
        if len(self.connections) > self._limits.connections:
            self._longest_waiting().give_way()

    def _longest_waiting(self) -> Patient:
        """Who has said nothing for longest, so that connections which say nothing keep nobody out."""
        silent = [each for each in self.connections if isinstance(each, Patient) and each._waiting]
        return min(silent, key=lambda each: each._waiting.when() if each._waiting else 0.0)

    def give_way(self) -> None:
        """Ends the connection for another's sake."""
        self._stop_waiting()
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._waiting is None and self.conn.their_state is h11.IDLE:
            self._wait_for_headers()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        unread = self.conn.their_state is h11.SEND_BODY
        super().on_response_complete()
        if unread:
            self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """uvicorn's own is plain text; clients parse what they get."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(NO_HTTP).encode()
            kind = [("content-type", "application/json"), ("content-length", str(len(body)))]
            head = h11.Response(status_code=400, headers=[*kind, ("connection", "close")])
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wait_for_headers(self) -> None:
        self._waiting = self.loop.call_later(self._limits.header_seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
