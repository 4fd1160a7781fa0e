"""The OpenAPI document: what every route takes and gives, and which roles may take it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .routes import OPEN, ROUTES

UNUSED = ("HTTPValidationError", "ValidationError")  # FastAPI's own error, in whose place `problems` are


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an app.

    Args:
        app: with all its routes.
    """
    table = get_openapi(
        title="Shuyuan",
        version=app.version,
        routes=app.routes,
        description="Trained runs behind OpenAI's API, and the tasks of the command.",
    )
    for (method, path), roles in ROUTES.items():
        operation = table["paths"][path][method.lower()]
        operation["responses"].pop("422", None)
        operation["security"] = [] if roles == OPEN else [{"key": []}]
        operation["x-roles"] = sorted(roles)
    components = table.setdefault("components", {})
    for name in UNUSED:
        components.get("schemas", {}).pop(name, None)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return table
