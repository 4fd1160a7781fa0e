"""The OpenAPI document is complete, and whatever is made from it ends without a 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.errors import SchemathesisError
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from shuyuan.serve.routes import OPEN, ROUTES
from tests.serve import fake
from tests.serve.running import Door, running


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    models = [fake.model("demo"), fake.model("labels", "sentiment")]
    with running(tmp_path_factory.mktemp("state"), models) as opened:
        yield opened


@pytest.fixture(scope="module")
def document(door: Door) -> Any:
    return door.ask("GET", "/openapi.json", key=door.key("reader", "auditor")).json


def test_every_route_is_in_it(document: Any) -> None:
    there = {(method.upper(), path) for path, table in document["paths"].items() for method in table}
    assert there == ROUTES.keys()
    for (method, path), roles in ROUTES.items():
        operation = document["paths"][path][method.lower()]
        assert operation["x-roles"] == sorted(roles)
        assert bool(operation["security"]) == (roles != OPEN)
        assert operation["summary"] and operation["description"]
        if roles != OPEN:
            assert {"400", "401", "403", "429"} <= operation["responses"].keys()
        assert "422" not in operation["responses"]
        content = operation["responses"]["200"]["content"]
        assert all(kind != "application/json" or body["schema"] for kind, body in content.items())


@pytest.mark.slow
@pytest.mark.parametrize("method, path", sorted(ROUTES))
def test_whatever_is_made_from_it(door: Door, document: Any, method: str, path: str) -> None:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=door.address)
    operation = schema[path][method]
    tag = f"{method}{path}".replace("/", ".").replace("{", "").replace("}", "")
    key = door.key(f"made{tag}", "admin")
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(
        case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
        | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
    )
    def ask(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = (
                "labels" if path.endswith("classify") else "demo"
            )  # chance would not find them
        case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, checks=checks)

    try:
        ask()
    except SchemathesisError as error:  # nothing to vary on a route without parameters
        assert method == "GET", error
    assert door.alive()
