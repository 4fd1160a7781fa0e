"""Server-sent events: a response that is written while it is computed."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..errors import ShuyuanError
from . import problems

if TYPE_CHECKING:
    from .visit import Visit

EVENTS = "text/event-stream"


class Events(StreamingResponse):
    """Events, one a text, and what is to be closed when they end or nobody listens any more.

    Args:
        events: what each holds.
        held: is closed at the end, however it comes.
        here: the request, which is told what became of it.
    """

    def __init__(self, events: AsyncGenerator[str, None], held: AsyncExitStack, here: Visit) -> None:
        super().__init__(self._framed(), media_type=EVENTS)
        self._events = events
        self._held = held
        self._here = here
        self._whole = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if not self._whole:
                self._here.decision = "gone"
            await self._events.aclose()
            await self._held.aclose()

    async def _framed(self) -> AsyncGenerator[str, None]:
        try:
            async for event in self._events:
                yield f"data: {event}\n\n"
        except ShuyuanError as error:
            self._here.decision = error.code
            yield f"data: {json.dumps(problems.table_of(error))}\n\n"
        self._whole = True
