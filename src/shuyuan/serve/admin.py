"""What administrators do and auditors read: keys, usage, limits, the audit log."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from .audit_log import RECENT
from .auth import expiry
from .completions import ERRORS
from .door import Guarded
from .problems import Problems
from .schemas import KeyFacts, KeyList, KeyMade, NewKey, Revoked, UsageLine, UsageList

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
