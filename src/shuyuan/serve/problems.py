"""Errors as OpenAI's clients read them, with the project's own code in them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ..errors import DataError, RunError, ServeError, ShuyuanError

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
SHOWN = 200  # characters of what was sent wrong
# Where each verb of the command is asked over HTTP.
_ROUTES = {
    "generate": "/v1/completions",
    "chat": "/v1/chat/completions",
    "translate": "/v1/translate",
    "summarize": "/v1/summarize",
    "answer": "/v1/answer",
    "classify": "/v1/classify",
}
_UNKNOWN = {
    404: ("serve.no-such-route", "There is no such route."),
    405: ("serve.other-method", "The route is there, and does not take this method."),
}


class Problem(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class Problems(BaseModel):
    """An error, as OpenAI's API gives it."""

    error: Problem


def status_of(error: ShuyuanError) -> int:
    """The HTTP status of an error that came of a request: who asks for what cannot be done did so; all else is ours."""
    if isinstance(error, ServeError):
        return error.status
    asked = isinstance(error, DataError | RunError) or error.code.startswith("inference.")
    return 400 if asked and error.code != "inference.no-numbers" else 500


def table_of(error: ShuyuanError) -> dict[str, Any]:
    """An error as it stands in a body. What is ours names no path."""
    status = status_of(error)
    what = (
        f"{error.what} {_over_http(error.mend)}"
        if status < 500
        else "The model failed; whoever runs the server can see why."
    )
    return table(status, error.code, what, error.where if isinstance(error, ServeError) else None)


def _over_http(mend: str) -> str:
    """A mend whose verbs of the command are named by their routes."""
    return re.sub(r"`shuyuan (\w+)`", lambda found: f"`{_ROUTES.get(found[1], found[0].strip('`'))}`", mend)


def table(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """An error of that status.

    Args:
        status: of HTTP.
        code: stable, such as "serve.no-model".
        message: for people.
        param: which part of the request it is about.

    Returns:
        {"error": {message, type, param, code}}, as OpenAI's API has it.
    """
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": readable(message), "type": kind, "param": param, "code": code}}


def readable(text: str) -> str:
    """A text that any encoding takes: halves of surrogate pairs are replaced."""
    return text.encode("utf-8", "replace").decode()


def answer(error: ShuyuanError) -> JSONResponse:
    """An error as a response."""
    headers = error.headers if isinstance(error, ServeError) else None
    return JSONResponse(table_of(error), status_of(error), headers)


def install(app: FastAPI) -> None:
    """Has an app tell its errors in this form."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ShuyuanError)
        return answer(error)

    async def misformed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer(_first(error.errors(), _fields(request)))

    async def unknown(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code, what = _UNKNOWN.get(error.status_code, ("serve.refused", str(error.detail)))
        told = table(error.status_code, code, f"{what} GET /openapi.json lists all routes.")
        return JSONResponse(told, error.status_code, error.headers)

    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return answer(nobody_foresaw())

    app.add_exception_handler(Exception, unexpected)
    app.add_exception_handler(ShuyuanError, refused)
    app.add_exception_handler(RequestValidationError, misformed)
    app.add_exception_handler(HTTPException, unknown)


def _fields(request: Request) -> list[str]:
    """What the body of a route may have."""
    body = get_type_hints(request.scope["endpoint"]).get("asked")
    return list(body.model_fields) if body is not None else []


def _first(found: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> ServeError:
    """The first thing that is wrong with a request, without repeating what was sent; a misspelt field before one that lacks."""
    wrong = min(found, key=lambda each: each["type"] != "extra_forbidden")
    place = [str(part)[:SHOWN] for part in wrong["loc"] if part != "body"]
    where = ".".join(place)[:SHOWN] or None
    what, mend = (
        f"{where or 'The body'}: {str(wrong['msg'])[:SHOWN]}.",
        "See /openapi.json for what is taken here.",
    )
    if wrong["type"] == "extra_forbidden":
        what = f"{where}: it is no field here, and would do nothing."
        near = difflib.get_close_matches(place[-1], fields, n=1) if len(place) == 1 else []
        mend = f"Did you mean {near[0]}?" if near else mend
    elif wrong["type"] == "missing" and where:
        what = f"{where} is needed."
    return ServeError("serve.bad-request", what, where=where, mend=mend)


def broken_json(why: str) -> ServeError:
    """The refusal of a body that is no JSON."""
    return ServeError(
        "serve.no-json",
        f"The body is no JSON that is taken here ({why[:SHOWN]}).",
        mend="Send one JSON object in UTF-8, nested less than 100 deep, without NaN or infinities.",
    )


def nobody_foresaw() -> ServeError:
    """The error that says nothing, since what there is to say could quote a prompt."""
    return ServeError("internal.unexpected", "Something went wrong.", status=500, mend="Try again.")
