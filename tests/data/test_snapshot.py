"""Models from the hub: a small hub of our own on the loopback interface, and the real client."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from shuyuan.data import local_folder, pinned
from shuyuan.errors import DataError

pytest.importorskip("huggingface_hub")

FILES = {
    "config.json": b'{"model_type": "gpt2"}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"a pickle",
    "own_code.py": b"code",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as its client asks for."""

    commit: ClassVar[str] = "a" * 40
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:4] == ["api", "models", "org", "tiny"]:
            siblings = [{"rfilename": name} for name in FILES]
            if "tree" in parts:
                listed = [
                    {
                        "type": "file",
                        "path": name,
                        "size": len(content),
                        "oid": hashlib.sha1(content).hexdigest(),
                    }
                    for name, content in FILES.items()
                ]
                self._answer(json.dumps(listed).encode())
            else:
                self._answer(
                    json.dumps({"id": "org/tiny", "sha": self.commit, "siblings": siblings}).encode()
                )
        elif parts[:3] == ["org", "tiny", "resolve"] and parts[4] in FILES:
            content = FILES[parts[4]]
            self._answer(
                content, {"X-Repo-Commit": self.commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
            )
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def _answer(self, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.asked.clear()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def ask(program: str, endpoint: str, cache: Path) -> Any:
    """Runs a few lines in a process that knows this hub alone; the client reads its settings when it is loaded."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    program = "import json; from shuyuan.data import local_folder, pinned\n" + program
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_repository_is_fetched_once_and_pinned(hub: str, tmp_path: Path) -> None:
    program = "place = pinned('hf:org/tiny'); folder = local_folder(place); print(json.dumps([place, sorted(p.name for p in folder.iterdir())]))"
    place, files = ask(program, hub, tmp_path)
    assert place == "hf:org/tiny@" + "a" * 40
    assert files == ["config.json", "model.safetensors", "tokenizer.json"], "no pickle and no code is fetched"
    assert all("org/tiny" in path for path in Hub.asked), "nothing else is asked of the hub"
    asked = len(Hub.asked)
    again = f"print(json.dumps([pinned({place!r}), str(local_folder({place!r}))]))"
    same, folder = ask(again, hub, tmp_path)
    assert same == place and (Path(folder) / "model.safetensors").read_bytes() == b"weights"
    assert Hub.asked[asked:] == [], "the network was asked again for what is there"


def test_a_plan_fetches_no_weights(hub: str, tmp_path: Path) -> None:
    place = "hf:org/tiny@" + "a" * 40
    look = f"folder = local_folder({place!r}, weights=False); print(json.dumps(sorted(p.name for p in folder.iterdir())))"
    assert ask(look, hub, tmp_path) == ["config.json", "tokenizer.json"]
    whole = f"print(json.dumps(sorted(p.name for p in local_folder({place!r}).iterdir())))"
    assert ask(whole, hub, tmp_path) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_what_cannot_be_fetched_is_named(hub: str, tmp_path: Path) -> None:
    program = (
        "from shuyuan.errors import DataError\ntry: local_folder('hf:org/none')\n"
        "except DataError as error: print(json.dumps(str(error)))"
    )
    assert "hf:org/none" in (said := ask(program, hub, tmp_path)) and "data.hub-failed" in said
    assert "data.hub-failed" in ask(program, "http://127.0.0.1:9", tmp_path)


@pytest.mark.parametrize("place", ["hf:", "hf:../../etc", "hf:a/b/c", "hf:a b", "hf:https://host/x"])
def test_a_name_that_is_none_asks_nobody(place: str) -> None:
    with pytest.raises(DataError, match=r"data\.bad-hub-name"):
        local_folder(place)


def test_a_path_is_a_path(tmp_path: Path) -> None:
    assert local_folder(str(tmp_path)) == tmp_path and pinned(str(tmp_path)) == str(tmp_path)
