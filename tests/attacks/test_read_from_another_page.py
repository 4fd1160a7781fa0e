"""Exploit: a page in somebody's browser that calls the server on their machine, under its own name or another's (DNS rebinding)."""

from __future__ import annotations

import json
from pathlib import Path

from tests.serve.running import running

BODY = {"model": "demo", "prompt": "x", "temperature": 0}


def test_a_page_of_others_reaches_nothing(tmp_path: Path) -> None:
    """Even where no key is asked for."""
    with running(tmp_path, insecure_open=True) as door:
        form = json.dumps(BODY).encode()
        for headers in (
            {
                "Host": "evil.example",
                "Origin": "http://evil.example",
            },  # a name that leads here since a moment
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Content-Type": "text/plain"},  # what a form can send without asking
            {"Content-Type": "application/x-www-form-urlencoded"},
        ):
            answer = door.ask("POST", "/v1/completions", form, headers=headers)
            assert answer.status in (400, 403, 415)
            assert "access-control-allow-origin" not in answer.headers
        assert not door.runs  # no model was even loaded
        assert door.ask("POST", "/v1/completions", BODY).status == 200
