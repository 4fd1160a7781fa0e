"""What stands between the network and a route: who calls whom, who may come in, and how much may come in at once."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..errors import ServeError, ShuyuanError
from . import problems
from .auth import Key, no_entry
from .guard import told
from .routes import OPEN, ROUTES
from .settings import Settings

if TYPE_CHECKING:
    from .app import Server

_log = logging.getLogger(__name__)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
COOKIE = "shuyuan_session"
STRANGERS_BYTES = 4096  # of a body that comes without a key
NOBODY = Key("open", "user")  # whoever comes in where no keys are asked for


class Doorkeeper:
    """The outermost layer: refuses names and pages of others, and turns what nobody foresaw into an error that says nothing.

    Args:
        app: all that lies behind.
        settings: name the hosts, and how long a client may take to read.

    Attributes:
        failure: why the app could not begin.
    """

    failure: ShuyuanError | None = None

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self.inner = app
        self._hosts = {"localhost", *(host.lower() for host in settings.hosts)}
        self._seconds = settings.limits.send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            async with asyncio.timeout(self._seconds):  # a client that does not read holds nothing for long
                await send(message)

        try:
            self._check(Headers(scope=scope))
            await self.inner(scope, receive, sent)
        except ServeError as error:
            if not begun:
                await problems.answer(error)(scope, receive, sent)
        except TimeoutError:
            _log.info("a client did not read its answer")
        except Exception as error:
            # The message could quote a prompt; its kind and place are enough to look for it.
            _log.error("unexpected %s", type(error).__name__, exc_info=_log.isEnabledFor(logging.DEBUG))
            if not begun:
                await problems.answer(problems.nobody_foresaw())(scope, receive, sent)

    def _check(self, headers: Headers) -> None:
        named = headers.getlist("host")
        host = named[0] if len(named) == 1 else ""
        if not self._is_ours(host):
            raise ServeError(
                "serve.other-host",
                "The server does not go by this name.",
                mend="Call it by its address, or let it be started with --allow-host NAME.",
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise ServeError(
                "serve.other-origin",
                "Pages of others may not call this server.",
                status=403,
                mend="Open the server's own page.",
            )

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this server. An address cannot be made to lead elsewhere; a name can (DNS rebinding)."""
        name = host.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class Guarded(APIRoute):
    """A route that looks into the table of routes before anything of the body is read."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        (method,) = more["methods"]
        self.roles = ROUTES[method, path]  # one that the table does not know cannot be made
        super().__init__(path, endpoint, **more)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()
        roles = self.roles

        async def handle(request: Request) -> Response:
            server: Server = request.app.state.server
            if roles != OPEN:
                request.state.key = key = caller(request, server)
                if key.role not in roles:
                    raise ServeError(
                        "serve.low-role",
                        f"This is not for the role {key.role}.",
                        status=403,
                        mend=f"It takes a key of: {', '.join(sorted(roles))}.",
                    )
                await server.gate.enter(key)
            read = _Read(request.scope, request.receive)
            if request.method == "POST":
                limits, stranger = server.settings.limits, roles == OPEN
                size = STRANGERS_BYTES if stranger else limits.body_bytes
                read.holds(
                    await read_body(request, size, limits.header_seconds if stranger else limits.body_seconds)
                )
            response = await _while_there(inner(read), request.receive)
            response.headers.update(told(getattr(request.state, "guarded", None) or {}))
            return response

        return handle


def caller(request: Request, server: Server) -> Key:
    """Whose key a request comes with.

    Args:
        request: with one `Authorization: Bearer KEY`, or a session's cookie.
        server: knows keys and sessions.

    Raises:
        ServeError: nobody's.
    """
    given = request.headers.getlist("authorization")
    cookie = request.cookies.get(COOKIE)
    if not given and cookie is not None:
        return server.logged_in(request, cookie)
    if not given and server.settings.insecure_open:
        return NOBODY
    scheme, _, text = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer":
        raise no_entry()
    return server.keys.check(text.strip())


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The body, which is refused as soon as it is too long or too slow.

    Args:
        request: the request.
        limit: bytes that it may have.
        seconds: until it is there.

    Raises:
        ServeError: it is.
    """
    if any(length > limit for length in _lengths(request)):
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise ServeError(
            "serve.slow-body",
            f"The body did not come within {seconds:g} seconds.",
            status=408,
            headers={"Connection": "close"},
            mend="Send it faster, or less of it.",
        ) from None
    return bytes(body)


def _lengths(request: Request) -> Iterator[int]:
    for text in request.headers.getlist("content-length"):
        if text.isascii() and text.isdigit() and len(text) < 20:
            yield int(text)


def _too_large(limit: int) -> ServeError:
    return ServeError(
        "serve.too-large",
        f"The body has more than {limit:,} bytes.",
        status=413,
        headers={"Connection": "close"},
        mend="Send less at once.",
    )


class _Read(Request):
    """A request whose body was read and parsed already."""

    def holds(self, body: bytes) -> None:
        """Takes the body, in bounded time: no NaN, no half characters, no depth without end.

        Raises:
            ServeError: it is no JSON.
        """
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a form on a page of others cannot send this kind
            raise ServeError(
                "serve.other-type",
                "The body is not said to be JSON.",
                status=415,
                mend="Send it with `Content-Type: application/json`.",
            )
        try:
            self._json = from_json(body, allow_inf_nan=False, cache_strings="none")
        except (ValueError, RecursionError) as error:
            raise problems.broken_json(str(error)) from None
        self._body = body


async def _while_there(work: Coroutine[Any, Any, Response], receive: Receive) -> Response:
    """The response that some work comes to; it is broken off when the client goes away."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    doing, watching = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((doing, watching), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ServeError("serve.gone", "The client went away.", status=499, mend="Ask again.")
        return doing.result()
    finally:
        for task in (doing, watching):
            task.cancel()
        await asyncio.gather(doing, watching, return_exceptions=True)
