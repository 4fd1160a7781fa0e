"""Login of browsers: a key is exchanged for a cookie that no script can read and no other page can send along."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import time
from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ..errors import ServeError
from .auth import Key, Keys, no_entry
from .completions import ERRORS
from .door import COOKIE, Guarded
from .schemas import Login, Session

SECONDS = 12 * 3600.0
router = APIRouter(route_class=Guarded)


class Sessions:
    """The sessions of a server. One ends with its key.

    Args:
        state: as `open_state` gives it.
        keys: of the same server.
        clock: seconds since 1970.
    """

    def __init__(self, state: sqlite3.Connection, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._state, self._keys, self._clock = state, keys, clock

    def begin(self, key: Key) -> str:
        """A new session; its text is for the cookie, and a digest is kept."""
        self._state.execute("DELETE FROM sessions WHERE expires <= ?", (self._clock(),))
        text = secrets.token_urlsafe(32)
        self._state.execute(
            "INSERT INTO sessions VALUES (?, ?, ?)", (_digest(text), key.id, self._clock() + SECONDS)
        )
        return text

    def check(self, text: str) -> Key:
        """Whose session this is.

        Raises:
            ServeError: nobody's, or no longer.
        """
        # Looked up by the digest of 256 random bits: what the time of that tells leads nowhere.
        row = self._state.execute(
            "SELECT key, expires FROM sessions WHERE digest = ?", (_digest(text),)
        ).fetchone()
        key = None if row is None or row[1] <= self._clock() else self._keys.find(row[0])
        if key is None:
            raise no_entry()
        return key

    def end(self, text: str) -> None:
        """Ends a session."""
        self._state.execute("DELETE FROM sessions WHERE digest = ?", (_digest(text),))


def token_of(text: str) -> str:
    """What a page of ours must send beside the cookie, which pages of others cannot know (CSRF).

    Args:
        text: of the cookie.

    Returns:
        Hex.
    """
    return hashlib.sha256(b"csrf\0" + text.encode("utf-8", "surrogatepass")).hexdigest()


def check_token(text: str, token: str) -> None:
    """Looks whether a request with a cookie comes from a page of ours.

    Args:
        text: of the cookie.
        token: as it was sent beside it.

    Raises:
        ServeError: it does not.
    """
    if not hmac.compare_digest(token_of(text).encode(), token.encode("utf-8", "surrogatepass")):
        raise ServeError(
            "serve.no-token",
            "The request comes from no page of this server.",
            status=403,
            mend="Send the token of the session as X-CSRF-Token.",
        )


@router.post("/session", responses=ERRORS, response_model=Session)
async def login(asked: Login, request: Request) -> Response:
    """Exchanges a key for a session."""
    server = request.app.state.server
    key = server.keys.check(asked.key)
    await server.gate.enter(key)  # each login leaves a line in the log and one in the state
    text = server.sessions.begin(key)
    await server.log(key, "session.begin")
    response = JSONResponse(_told(key, text).model_dump())
    response.set_cookie(
        COOKIE,
        text,
        max_age=int(SECONDS),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.get("/session", responses=ERRORS)
async def session(request: Request) -> Session:
    """Who is logged in."""
    return _told(request.state.key, request.cookies.get(COOKIE, ""))


@router.delete("/session", responses=ERRORS, response_model=Session)
async def logout(request: Request) -> Response:
    """Ends the session."""
    text = request.cookies.get(COOKIE, "")
    request.app.state.server.sessions.end(text)
    response = JSONResponse(_told(request.state.key, "").model_dump())
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _told(key: Key, text: str) -> Session:
    return Session(name=key.name, role=key.role, token=token_of(text) if text else None)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
