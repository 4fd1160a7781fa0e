"""Every route, with every kind of key that must not open it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute

from shuyuan.serve.door import Guarded
from shuyuan.serve.routes import OPEN, ROUTES
from tests.serve.running import Door, running

WRONG_KEYS = ["", "nothing", "sk-0123456789abcdef-" + "A" * 43, "\u00e9"]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with running(tmp_path_factory.mktemp("state")) as opened:
        yield opened


def made(door: Door) -> dict[tuple[str, str], APIRoute]:
    """The routes that the app really has, however they came into it."""
    return {(method, route.path): route for route in door.routes() for method in route.methods or ()}


def test_the_table_and_the_app_agree(door: Door) -> None:
    routes = made(door)
    assert routes.keys() == ROUTES.keys()
    assert all(isinstance(route, Guarded) for route in routes.values())


def test_what_each_role_may_do() -> None:
    """Told a second time, so that no slip in the table opens a door: to ask a model, to read what was done, to give keys."""

    def of(role: str) -> set[str]:
        return {f"{method} {path}" for (method, path), roles in ROUTES.items() if role in roles}

    everyone = {
        "GET /openapi.json",
        "GET /session",
        "DELETE /session",
        "GET /v1/models",
        "GET /v1/models/{model}",
    }
    asking = {
        f"POST /v1/{name}"
        for name in ("chat/completions", "completions", "translate", "answer", "summarize", "classify")
    }
    reading = {
        f"GET /admin/{name}" for name in ("keys", "usage", "limits", "audit", "runs", "runs/{model}/report")
    }
    giving = {"POST /admin/keys", "DELETE /admin/keys/{name}"}
    assert of("user") == everyone | asking
    assert of("auditor") == everyone | reading | {"GET /metrics"}
    assert of("admin") == of("user") | of("auditor") | giving
    without = {f"{method} {path}" for (method, path), roles in ROUTES.items() if roles == OPEN}
    told = {
        "GET /",
        "GET /healthz",
        "GET /readyz",
        "GET /handbook",
        "GET /handbook/{question}",
        "POST /session",
    }
    assert all(each in told or each.startswith("GET /web/") for each in without)


def test_a_route_that_the_table_does_not_know_cannot_be_made() -> None:
    with pytest.raises(KeyError):
        Guarded("/v1/secret", lambda: None, methods=["GET"])


@pytest.mark.parametrize("method, path", sorted(ROUTES))
def test_who_may_not_come_in(door: Door, method: str, path: str) -> None:
    roles, place = ROUTES[method, path], re.sub(r"\{.*?\}", "lora" if "handbook" in path else "demo", path)
    body = b"{" if method == "POST" else None
    if roles == OPEN:
        answer = door.ask(method, place, body)
        assert answer.status == 200 if method == "GET" else answer.code == "serve.no-json"
        return
    tag = f"{method}{path}".replace("/", ".").replace("{", "").replace("}", "")
    expired = door.key(f"expired{tag}", "admin", expires=time.time() - 1)
    revoked = door.key(f"revoked{tag}", "admin")
    assert door.ask(method, place, body, revoked).status not in (401, 403)
    door.server.keys.revoke(f"revoked{tag}")
    for key in (None, expired, revoked, *WRONG_KEYS[:3]):
        answer = door.ask(method, place, body, key)
        assert (answer.status, answer.code) == (401, "serve.no-key")
        assert answer.headers["www-authenticate"] == "Bearer"
    for role in ("admin", "user", "auditor"):
        answer = door.ask(method, place, body, door.key(f"{role}{tag}", role))
        if role in roles:
            assert answer.status not in (401, 403)
        else:
            assert (answer.status, answer.code) == (403, "serve.low-role")


@pytest.mark.parametrize(
    "header", ["Basic abc", "bearer", "Bearer", "Bearer a b", "Token x", "sk-x", "Bearer \xe9"]
)
def test_headers_that_are_no_key(door: Door, header: str) -> None:
    assert door.ask("GET", "/v1/models", headers={"Authorization": header}).status == 401


def test_two_keys_are_none(door: Door) -> None:
    """A proxy may have looked at the other one."""
    good = f"Authorization: Bearer {door.key('two-keys')}\r\n".encode()
    for lines in (good + b"Authorization: Bearer x\r\n", good + good):
        answer = door.raw(
            b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + lines + b"\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 401")


def test_what_is_not_there(door: Door) -> None:
    assert door.ask("GET", "/nothing").code == "serve.no-such-route"
    assert door.ask("GET", "/v1/completions").code == "serve.other-method"
    assert door.ask("GET", "/docs").status == door.ask("GET", "/redoc").status == 404


def test_a_key_lists_and_finds_the_models_that_it_is_granted(door: Door) -> None:
    granted, not_granted = door.key("granted", models=["demo"]), door.key("other", models=["else"])
    assert [each["id"] for each in door.ask("GET", "/v1/models", key=granted).json["data"]] == ["demo"]
    assert door.ask("GET", "/v1/models", key=not_granted).json["data"] == []
    assert door.ask("GET", "/v1/models/demo", key=granted).status == 200
    body = {"model": "demo", "prompt": "x", "text": "x"}
    for path in ("/v1/completions", "/v1/summarize"):
        asked = {name: body[name] for name in ("model", "prompt" if "completions" in path else "text")}
        assert door.ask("POST", path, asked, granted).status == 200
        refused = door.ask("POST", path, asked, not_granted)
        assert (refused.status, refused.code) == (404, "serve.no-model")
    there = door.ask("GET", "/v1/models/demo", key=not_granted)
    missing = door.ask("GET", "/v1/models/demo2", key=granted)
    assert (there.status, there.code) == (missing.status, missing.code) == (404, "serve.no-model")


def test_an_administrator_makes_and_revokes_keys(door: Door) -> None:
    admin = door.key("the-admin", "admin")
    made = door.ask("POST", "/admin/keys", {"name": "new", "models": ["demo"]}, admin)
    assert made.status == 200
    key = made.json["key"]
    assert door.ask("GET", "/v1/models", key=key).status == 200
    assert key.encode() not in door.ask("GET", "/admin/keys", key=admin).body
    assert door.ask("DELETE", "/admin/keys/new", key=admin).json == {"revoked": "new"}
    assert door.ask("GET", "/v1/models", key=key).status == 401
    assert door.ask("DELETE", "/admin/keys/never", key=admin).code == "serve.no-such-key"
    assert door.ask("POST", "/admin/keys", {"name": "new"}, admin).code == "serve.name-taken"
