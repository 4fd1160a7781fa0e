"""What administrators do and auditors read: keys, usage, limits, the audit log."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from ..errors import ServeError
from .audit_log import RECENT
from .auth import expiry
from .completions import ERRORS
from .door import Guarded
from .problems import Problems
from .schemas import (
    LONGEST_NAME,
    KeyFacts,
    KeyList,
    KeyMade,
    NewKey,
    Revoked,
    RunFacts,
    RunList,
    UsageLine,
    UsageList,
)
from .shelf import REPORT, Model

# A report is one page that holds all it shows; it runs nothing and asks for nothing.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
router = APIRouter(route_class=Guarded)


@router.get("/metrics", responses={**ERRORS, 200: {"content": {"text/plain": {}}}}, response_class=Response)
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(request.app.state.server.metrics.render(), media_type="text/plain; version=0.0.4")


@router.get("/admin/keys", responses=ERRORS)
async def keys(request: Request) -> KeyList:
    """All keys, without their texts."""
    return KeyList(keys=[KeyFacts(**key.as_dict()) for key in request.app.state.server.keys.all()])


@router.post("/admin/keys", responses={**ERRORS, 409: {"model": Problems}})
async def new_key(asked: NewKey, request: Request) -> KeyMade:
    """Makes a key; its text is told here and never again."""
    server = request.app.state.server
    key, text = server.keys.add(asked.name, asked.role, expiry(asked.expires, time.time()), asked.models)
    await server.log(request.state.key, "key.add", key=key.name, role=key.role)
    return KeyMade(**key.as_dict(), key=text)


@router.delete("/admin/keys/{name}", responses=ERRORS)
async def revoke(name: Annotated[str, Path(max_length=64)], request: Request) -> Revoked:
    """Makes a key useless at once."""
    server = request.app.state.server
    server.keys.revoke(name)
    await server.log(request.state.key, "key.revoke", key=name)
    return Revoked(revoked=name)


@router.get("/admin/usage", responses=ERRORS)
async def usage(request: Request) -> UsageList:
    """What each key took."""
    return UsageList(usage=[UsageLine(**line) for line in request.app.state.server.usage.all()])


@router.get("/admin/limits", responses=ERRORS)
async def limits(request: Request) -> dict[str, Any]:
    """What one key may take, and one connection."""
    return {"limits": {**asdict(request.app.state.server.settings.limits), "storage": "set"}}


@router.get("/admin/audit", responses=ERRORS)
async def audit(
    request: Request, last: Annotated[int, Query(ge=1, le=RECENT)] = 100
) -> dict[str, list[dict[str, Any]]]:
    """The last entries of the audit log, the newest first."""
    recent = request.app.state.server.audit.recent
    return {"entries": list(recent)[: -last - 1 : -1]}


@router.get("/admin/runs", responses=ERRORS)
async def runs(request: Request) -> RunList:
    """The models that are served, and how busy they are."""
    return RunList(runs=[_run(model) for model in request.app.state.server.shelf.models.values()])


@router.get(
    "/admin/runs/{model}/report",
    responses={**ERRORS, 200: {"content": {"text/html": {}}}},
    response_class=Response,
)
async def report(model: Annotated[str, Path(max_length=LONGEST_NAME)], request: Request) -> Response:
    """The page of a run: of a private one the public page."""
    found = request.app.state.server.shelf.find(model)
    if not found.has_report:
        raise ServeError(
            "serve.no-report", "The run has no page.", status=404, mend="Write it with `shuyuan report RUN`."
        )
    page = await asyncio.to_thread((found.path / REPORT).read_bytes)
    return Response(page, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})


def _run(model: Model) -> RunFacts:
    return RunFacts(
        model=model.name,
        variant=model.variant,
        task=model.task,
        bytes=model.bytes,
        loaded=model.worker is not None,
        active=model.line.places - model.line.free,
        waiting=model.line.waiting,
        report=model.has_report,
    )
