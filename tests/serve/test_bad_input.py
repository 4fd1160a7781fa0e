"""Everything absurd that a stranger may send ends in a typed 4xx, and the server goes on."""

from __future__ import annotations

import base64
import gc
import json
import resource
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.attacks.test_explode_in_memory import chunk, png
from tests.serve import fake
from tests.serve.running import Door, running

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hello."}], "temperature": 0}
TEXT = {"model": "words", "prompt": "Hello.", "temperature": 0}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    models = [fake.model("demo"), fake.model("words", "generation"), fake.model("pictures", "sentiment")]
    with running(tmp_path_factory.mktemp("state"), models) as opened:
        yield opened


@pytest.fixture(scope="module")
def key(door: Door) -> str:
    return door.key()


@pytest.fixture(autouse=True)
def _alive(door: Door) -> Iterator[None]:
    yield
    assert door.alive()
    assert all(model.line.free == model.line.places for model in door.server.shelf.models.values())


def refused(door: Door, key: str, path: str, body: Any, **more: Any) -> str:
    """The code of a refusal, which is a 4xx."""
    answer = door.ask("POST", path, body, key, **more)
    assert 400 <= answer.status < 500, answer.body
    return answer.code


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nothing",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"model": "demo", "temperature": NaN}',
        b'{"model": "demo", "temperature": Infinity}',
        b'{"model": "demo", "temperature": 1e999}',
        b'{"model": "demo", "n": ' + b"9" * 1_000_000 + b"}",
        b'{"model": "demo", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "demo", "messages": [{"role": "user", "content": "\\udc00\\ud800"}]}',
        b'{"model": "\xed\xa0\x80"}',
        b'{"model": "demo"} {"model": "demo"}',
        b"null",
        b"[]",
        b'"text"',
        b"0",
        b"\x00" * 1000,
        "{“model”: “demo”}".encode(),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/classify", "/v1/translate"])
def test_bodies_that_are_no_request(door: Door, key: str, path: str, body: bytes) -> None:
    assert refused(door, key, path, body) in ("serve.no-json", "serve.bad-request")


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_is_no_number_in_json(door: Door, key: str, value: bytes) -> None:
    body = json.dumps({**TEXT, "temperature": 7.25}).encode().replace(b"7.25", value)
    assert refused(door, key, "/v1/completions", body) == "serve.no-json"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/chat/completions", {**CHAT, "temprature": 1}, "Did you mean temperature?"),
        ("/v1/chat/completions", {"model": "demo", "mesages": []}, "Did you mean messages?"),
        ("/v1/chat/completions", {**CHAT, "tools": []}, "tools: it is no field here"),
        ("/v1/translate", {"model": "demo", "text": "Hello"}, "to is needed."),
        ("/v1/chat/completions", {**CHAT, "model": "pictures"}, "Use `/v1/classify`, or train"),
        ("/v1/nothing", {}, "GET /openapi.json lists all routes."),
    ],
)
def test_a_refusal_names_the_mend(door: Door, key: str, path: str, body: Any, said: str) -> None:
    assert said in door.ask("POST", path, body, key).json["error"]["message"]


ABSURD: list[Any] = [
    None, True, -1, 0, 2**31, 2**63, 2**64, 10**400, -(10**30), 0.5, -0.0, 1e308, "", "1", "NaN", [], [[]], {}, {"a": 1},
    ["x"] * 100_000, "x" * 100_000, "\u0000", "{{7*7}}", "${jndi:ldap://x}", "(a+)+$", "../../etc/passwd", [None], [1e400],
]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["n", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "seed", "stop", "logprobs"],
)
def test_settings_of_every_absurd_value(door: Door, key: str, name: str) -> None:
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)):
        for value in ABSURD:
            text = json.dumps({**body, name: value}).encode()
            answer = door.ask("POST", path, text, key)
            assert answer.status < 500, (name, value, answer.body)
            if answer.status != 200:
                assert answer.code
            else:
                assert answer.json["choices"]


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "..", "/", "demo/../demo", "demo\u0000", "\u0000", "DEMO", "demo:", "demo:int8", " demo", "%64emo", "x" * 201, "$(id)", "demo\n", "🦊", ""],
)  # fmt: skip
def test_names_of_models_lead_nowhere(door: Door, key: str, name: str) -> None:
    assert refused(door, key, "/v1/chat/completions", {**CHAT, "model": name}) in (
        "serve.no-model",
        "serve.bad-request",
    )


@pytest.mark.parametrize(
    "path", ["..%2F..%2Fetc%2Fpasswd", "%00", "x" * 10_000, "demo%0d%0aX-Evil:1", "%ff%fe"]
)
def test_paths_lead_nowhere(door: Door, key: str, path: str) -> None:
    answer = door.ask("GET", f"/v1/models/{path}", key=key)
    assert 400 <= answer.status < 500 and answer.code
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize(
    "more",
    [
        {"unknown": 1},
        {"tools": []},
        {"stream_options": {"include": True}},
        {"messages": []},
        {"messages": {}},
        {"messages": [{}]},
        {"messages": [{"role": "root", "content": "x"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": []}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}],
                }
            ]
        },
        {"messages": [{"role": "user", "content": "x", "evil": 1}]},
        {"response_format": {"type": "json_object"}},
        {"frequency_penalty": 1},
        {"logprobs": True, "top_logprobs": 21},
    ],
)
def test_fields_of_a_chat(door: Door, key: str, more: dict[str, Any]) -> None:
    code = refused(door, key, "/v1/chat/completions", {**CHAT, **more})
    assert code.startswith(("serve.", "data."))


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        1,
        {},
        [],
        [[]],
        [""] * 65,
        [-1],
        [2**31],
        [0x110000],
        [1.5],
        ["x", 1],
        [[1], "x"],
        "x" * 2_000_000,
        [1] * 100_000,
    ],
)
def test_prompts_that_are_none(door: Door, key: str, prompt: Any) -> None:
    assert refused(door, key, "/v1/completions", {**TEXT, "prompt": prompt}).startswith("serve.")


def test_text_of_every_kind_is_text(door: Door, key: str) -> None:
    """What looks like a template, a pattern or a command is repeated as it is."""
    for text in (
        "{{7*7}}",
        "{% for x in y %}",
        "${x}",
        "(a+)+$",
        "<script>",
        "\u0000\u0001\u202e",
        "%s%n",
        "'; DROP TABLE keys; --",
        "{messages}",
        "🦊\ufffd",
    ):
        answer = door.ask("POST", "/v1/completions", {**TEXT, "prompt": text, "max_tokens": 200}, key)
        assert answer.json["choices"][0]["text"] == text
        chat = {**CHAT, "messages": [{"role": "user", "content": f"a {text} b"}]}
        assert (
            f"a {text} b"
            in door.ask("POST", "/v1/chat/completions", chat, key).json["choices"][0]["message"]["content"]
        )


BOMB = png(65_000, 65_000, b"\0" * 2**20)
COMMENT = png(1, 1, b"\0\0", chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 2**28)))
IMAGES = {
    "bomb": base64.b64encode(BOMB).decode(),
    "comment": base64.b64encode(COMMENT).decode(),
    "half": base64.b64encode(png(4, 4, b"\0" * 20)[:40]).decode(),
    "no image": base64.b64encode(b"GIF89a" + b"\0" * 100).decode(),
    "svg": base64.b64encode(
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    ).decode(),
    "no base64": "!!!",
    "empty": "",
    "address": "http://127.0.0.1/x.png",
    "file": "file:///etc/passwd",
    "data address": "data:image/png;base64,AAAA",
    "half a character": "é",
}


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_images(door: Door, key: str, name: str) -> None:
    door.ask("POST", "/v1/classify", {"model": "pictures", "text": "x"}, key)
    door.runs["pictures"].reads_images = True
    assert (
        refused(door, key, "/v1/classify", {"model": "pictures", "image": IMAGES[name]}) == "serve.no-image"
    )


def test_kinds_of_content(door: Door, key: str) -> None:
    body = json.dumps(CHAT).encode()
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "application/jsonx",
    ):
        answer = door.ask("POST", "/v1/chat/completions", body, key, {"Content-Type": kind})
        assert (answer.status, answer.code) == (415, "serve.other-type")
    fine = door.ask(
        "POST", "/v1/chat/completions", body, key, {"Content-Type": "application/json; charset=utf-8"}
    )
    assert fine.status == 200


def test_a_body_without_end_is_refused_while_it_comes(door: Door, key: str) -> None:
    limit = door.server.settings.limits.body_bytes
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    declared = door.raw((head + f"Content-Length: {limit + 1}\r\n\r\n").encode())
    assert declared.startswith(b"HTTP/1.1 413")
    part = b"%x\r\n" % 65536 + b"x" * 65536 + b"\r\n"
    chunked = door.raw(
        (head + "Transfer-Encoding: chunked\r\n\r\n").encode(), *([part] * (limit // 65536 + 2))
    )
    assert chunked.startswith(b"HTTP/1.1 413") and b"serve.too-large" in chunked


def test_memory_is_back_to_normal(door: Door, key: str) -> None:
    """Large refused bodies, one after another, are not kept."""
    body = json.dumps({**TEXT, "prompt": "x" * 4_000_000}).encode()
    refused(door, key, "/v1/completions", body)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(30):
        refused(door, key, "/v1/completions", body)
    gc.collect()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 60
