"""The server as an ASGI app: its parts, and how they begin and end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..errors import ShuyuanError
from . import admin, answers_api, completions, handbook, models_api, pages, problems, sessions, tasks_api
from .audit_log import AuditLog
from .auth import Key, Keys
from .document import document
from .door import Doorkeeper
from .guard import load_guard
from .limits import Gate, Tokens
from .metrics import Metrics
from .sessions import Sessions, check_token
from .settings import Settings
from .shelf import Shelf
from .state import open_state
from .usage import UsageLog
from .visit import Visit


class Server:
    """What the routes share.

    Args:
        settings: how it is set up.
        shelf: the models.

    Attributes:
        ready: whether requests are taken.
    """

    def __init__(self, settings: Settings, shelf: Shelf) -> None:
        self.settings = settings
        self.shelf = shelf
        self.ready = False
        self._state = open_state(settings.state)
        self.audit = AuditLog(settings.state, settings.audit_key)
        self.keys = Keys(self._state)
        self.sessions = Sessions(self._state, self.keys)
        self.usage = UsageLog(self._state)
        self.guard = load_guard(settings.guard)
        self.gate = Gate(settings.limits)
        self.tokens = Tokens(settings.limits.tokens_per_minute)
        self.metrics = Metrics(shelf)

    def logged_in(self, request: Request, cookie: str) -> Key:
        """Whose session a request comes with.

        Raises:
            ServeError: nobody's; or it changes something, and comes from no page of ours.
        """
        key = self.sessions.check(cookie)
        if request.method != "GET":
            check_token(cookie, request.headers.get("x-csrf-token", ""))
        return key

    def note(self, visit: Visit, seconds: float, first: float | None) -> None:
        """Writes the account of a request to a model."""
        name = visit.model.name
        self.audit.add(visit.as_entry())
        self.usage.add(visit.key.name, name, visit.prompt_tokens, visit.completion_tokens)
        self.metrics.decisions.labels(name, visit.decision).inc()
        self.metrics.tokens.labels(name, "prompt").inc(visit.prompt_tokens)
        self.metrics.tokens.labels(name, "completion").inc(visit.completion_tokens)
        self.metrics.seconds.labels(name).observe(seconds)
        if first is not None:
            self.metrics.first.labels(name).observe(first)

    async def log(self, who: Key, event: str, **facts: Any) -> None:
        """Writes to the audit log what an administrator did; it is on disk when this returns."""
        self.audit.add({"event": event, "who": who.name, **facts})
        await self.audit.settled()

    async def close(self) -> None:
        """Puts the models away and closes what is open."""
        await self.shelf.close()
        self.audit.close()
        self._state.close()


def make_app(settings: Settings, shelf: Callable[[], Shelf]) -> Doorkeeper:
    """The app.

    Args:
        settings: how it is set up.
        shelf: makes the shelf of models; called where the event loop runs.
    """

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        try:
            server = app.state.server = Server(settings, shelf())
        except ShuyuanError as error:
            door.failure = error  # uvicorn says no more than that it did not start
            raise
        app.openapi_schema = document(app)  # made once, and not while somebody waits
        server.ready = True
        try:
            yield
        finally:
            server.ready = False
            await server.close()

    app = FastAPI(
        title="Shuyuan",
        version=__version__,
        lifespan=living,
        openapi_url=None,  # it is a route like others, with a role
        docs_url=None,
        redoc_url=None,
    )
    for part in (models_api, sessions, completions, tasks_api, answers_api, admin, handbook, pages):
        app.router.routes.extend(part.router.routes)
    problems.install(app)
    app.add_middleware(_Counted)
    door = Doorkeeper(app, settings)
    return door


class _Counted:
    """Counts responses by route and status."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                scope["app"].state.server.metrics.responses.labels(route, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, sent if scope["type"] == "http" else send)
