"""/v1/models, and whether the server is well."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from ..errors import ServeError
from .completions import ERRORS
from .door import Guarded
from .problems import Problems
from .schemas import LONGEST_NAME, Health, ModelFacts, ModelList
from .shelf import Model, no_model

router = APIRouter(route_class=Guarded)


@router.get("/v1/models", responses=ERRORS)
async def models(request: Request) -> ModelList:
    """The models that the key may ask."""
    key = request.state.key
    there = request.app.state.server.shelf.models.values()
    return ModelList(data=[_facts(model) for model in there if key.may_ask(model.name)])


@router.get("/v1/models/{model}", responses=ERRORS)
async def model(model: Annotated[str, Path(max_length=LONGEST_NAME)], request: Request) -> ModelFacts:
    """One of them."""
    if not request.state.key.may_ask(model):
        raise no_model(model)
    return _facts(request.app.state.server.shelf.find(model))


@router.get("/healthz")
async def healthz() -> Health:
    """The process is alive."""
    return Health()


@router.get("/readyz", responses={503: {"model": Problems}})
async def readyz(request: Request) -> Health:
    """Requests are taken."""
    server = request.app.state.server
    if not server.ready or server.audit.failed:
        raise ServeError(
            "serve.not-ready",
            "The server starts, is being stopped, or cannot write its log.",
            status=503,
            mend="Wait for it.",
        )
    return Health()


@router.get("/openapi.json", responses=ERRORS)
async def openapi(request: Request) -> dict[str, Any]:
    """What every route takes and gives."""
    table: dict[str, Any] = request.app.openapi_schema
    return table


def _facts(model: Model) -> ModelFacts:
    return ModelFacts(
        id=model.name,
        created=model.created,
        owned_by="shuyuan",
        task=model.task,
        loaded=model.worker is not None,
    )
