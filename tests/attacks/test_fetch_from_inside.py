"""Exploit: addresses where content is expected, so that the server asks a machine that only it can reach (SSRF)."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from tests.serve import fake
from tests.serve.running import running


def test_no_address_is_ever_called(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.settimeout(1.0)
        port = inside.getsockname()[1]
        models = [fake.model("demo"), fake.model("pictures", "sentiment")]
        with running(tmp_path, models) as door:
            key = door.key("root", "admin")
            door.ask("POST", "/v1/classify", {"model": "pictures", "text": "x"}, key)
            door.runs["pictures"].reads_images = True
            for address in (
                f"http://127.0.0.1:{port}/x.png",
                f"//127.0.0.1:{port}",
                f"hf:127.0.0.1:{port}",
                f"\\\\127.0.0.1\\{port}",
            ):
                image = [{"type": "image_url", "image_url": {"url": address}}]
                asked: list[tuple[str, Any]] = [
                    ("/v1/classify", {"model": "pictures", "image": address}),
                    ("/v1/classify", {"model": address, "text": "x"}),
                    (
                        "/v1/chat/completions",
                        {"model": "demo", "messages": [{"role": "user", "content": image}]},
                    ),
                    (
                        "/v1/chat/completions",
                        {"model": address, "messages": [{"role": "user", "content": "x"}]},
                    ),
                    ("/admin/keys", {"name": address}),
                ]
                for path, body in asked:
                    answer = door.ask(
                        "POST", path, body, key, {"X-Forwarded-Host": address, "Referer": address}
                    )
                    assert 400 <= answer.status < 500 and answer.code
            try:
                inside.accept()
            except TimeoutError:
                return
            raise AssertionError("somebody called")
