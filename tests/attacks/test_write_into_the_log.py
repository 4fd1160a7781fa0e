"""Exploit: names and prompts that would forge a line of a log, and keys that would be found in one."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from shuyuan.serve.audit_log import entries_of, verify
from tests.serve import fake
from tests.serve.running import running

FORGED = 'x"}\n{"event": "key.add", "who": "root", "key": "evil'


def test_a_name_forges_no_entry(tmp_path: Path) -> None:
    with running(tmp_path) as door:
        root, user = door.key("root", "admin"), door.key("li")
        assert door.ask("POST", "/admin/keys", {"name": FORGED}, root).code == "serve.bad-name"
        door.ask("POST", "/v1/completions", {"model": FORGED, "prompt": FORGED}, user)
        door.ask("POST", "/v1/completions", {"model": "demo", "prompt": FORGED, "user": FORGED}, user)
    assert [entry["event"] for entry in entries_of(tmp_path)] == ["log.begin", "request"]
    assert verify(tmp_path)["ok"]


def test_no_key_or_prompt_is_in_any_log_or_figure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    secret = "Zyzzogeton-7431"
    with running(tmp_path) as door:
        root, user = door.key("root", "admin"), door.key("li")
        made = door.ask("POST", "/admin/keys", {"name": "new"}, root).json["key"]
        for prompt in (secret, secret + fake.BREAKS, secret * 1000):
            door.ask("POST", "/v1/completions", {"model": "demo", "prompt": prompt}, user)
        door.ask("POST", "/v1/completions", {"model": "demo", "prompt": {"x": secret}}, user)
        door.ask("POST", "/v1/completions", b'{"' + secret.encode(), user)
        door.ask("GET", f"/v1/models/{secret}", key=user)
        shown = door.server.metrics.render().decode() + json.dumps(list(entries_of(tmp_path)))
    held = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    for word in (secret, root, user, made):
        assert word not in shown
        assert word not in caplog.text
        assert word.encode() not in held
