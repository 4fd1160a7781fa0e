"""The process: its first key, its end on SIGTERM, TLS, and what a kill leaves."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shuyuan.errors import ServeError, ShuyuanError
from shuyuan.serve import Keys, open_state
from shuyuan.serve.audit_log import AuditLog, entries_of, verify
from shuyuan.serve.server import serve
from shuyuan.serve.settings import Limits, Settings
from shuyuan.serve.usage import UsageLog
from tests.conftest import ROOT


class Child:
    """A server process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.said: list[str] = []
        for line in process.stdout:
            self.said.append(line)
            if line.startswith("at "):
                self.address = line[3:].strip()
                break
        else:
            raise AssertionError(f"it did not start: {self.said}")
        self.port = urlsplit(self.address).port

    @property
    def key(self) -> str:
        """The one that it printed."""
        (found,) = re.findall(r"sk-[0-9a-f]{16}-\S{43}", "".join(self.said))
        return str(found)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, key: str, body: Any = None) -> tuple[int, Any]:
        with closing(self.connect()) as connection:
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())


@contextmanager
def child(state: Path, seconds: float = 0.0, *files: Path) -> Iterator[Child]:
    """A server process while this lasts."""
    command = [sys.executable, "-m", "tests.serve.child", str(state), str(seconds), *map(str, files)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=dict(os.environ)
    ) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


BODY = {"model": "demo", "prompt": "abcdefghij", "temperature": 0, "stream": True, "max_tokens": 100}


def test_the_first_key_is_shown_once(tmp_path: Path) -> None:
    with child(tmp_path) as first:
        status, told = first.ask("GET", "/admin/keys", first.key)
        assert status == 200
        (key,) = told["keys"]
        assert (key["name"], key["role"]) == ("first-admin", "admin")
        assert key["expires"] is not None
    with child(tmp_path) as second:
        assert "sk-" not in "".join(second.said)


@pytest.mark.slow
def test_answers_end_before_the_server_does(tmp_path: Path) -> None:
    with child(tmp_path, 0.05) as server:
        key = server.key
        with closing(server.connect()) as connection:
            connection.request(
                "POST",
                "/v1/completions",
                json.dumps({**BODY, "prompt": "x" * 60}),
                {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            assert answer.status == 200
            answer.readline()
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            with pytest.raises(OSError):
                server.ask("GET", "/healthz", key)  # nobody new is let in
            rest = answer.read().decode()
        assert rest.rstrip().endswith("[DONE]")
        assert server.process.wait(30) == 0
        assert server.process.stdout is not None and "ended" in server.process.stdout.read()


@pytest.mark.slow
def test_a_kill_under_load_leaves_all_whole(tmp_path: Path) -> None:
    with child(tmp_path, 0.001) as server:
        key, going, done = server.key, True, [0]

        def load() -> None:
            while going:
                try:
                    status, _ = server.ask("POST", "/v1/completions", key, {**BODY, "stream": False})
                except (OSError, http.client.HTTPException):
                    return
                done[0] += status == 200

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        while done[0] < 50:
            time.sleep(0.05)
        server.ask("POST", "/admin/keys", key, {"name": "li"})
        counted = done[0]
        server.process.kill()
        going = False
        for thread in threads:
            thread.join(60)
    with closing(open_state(tmp_path)) as state:
        assert state.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert {each.name for each in Keys(state).all()} == {"first-admin", "li"}
        (line,) = UsageLog(state).all()
        assert line["requests"] >= counted
        assert line["completion_tokens"] == line["requests"] * 10
    assert verify(tmp_path)["ok"]
    entries = list(entries_of(tmp_path))
    # What was answered stands in the log, and a line may be there whose count in the state the kill prevented.
    assert sum(each["event"] == "request" for each in entries) >= counted
    assert [each["key"] for each in entries if each["event"] == "key.add"] == ["li"]
    with child(tmp_path) as again:
        assert again.ask("GET", "/admin/keys", key)[0] == 200


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "cert.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return public, private


def test_tls(tmp_path: Path) -> None:
    public, private = certificate(tmp_path)
    with child(tmp_path / "state", 0.0, public, private) as server:
        assert server.address.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(public))
        with closing(
            http.client.HTTPSConnection("127.0.0.1", server.port, context=trusted, timeout=60)
        ) as connection:
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200


def test_half_of_tls_is_refused(tmp_path: Path) -> None:
    public, _ = certificate(tmp_path)
    for settings, code in (
        (Settings(state=tmp_path, certificate=public), "serve.half-tls"),
        (Settings(state=tmp_path, certificate=public, private_key=tmp_path / "no"), "serve.no-tls-file"),
    ):
        with pytest.raises(ServeError) as caught:
            serve([], settings)
        assert caught.value.code == code


def test_why_it_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shuyuan.serve.server.models_in", lambda *_: [])
    log = AuditLog(tmp_path / "used")
    AuditLog(tmp_path / "broken").close()
    (tmp_path / "broken/audit/audit.head").write_text("{}")  # signs nothing
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for settings, code in (
            (Settings(port=0, state=tmp_path / "used"), "serve.state-in-use"),
            (Settings(port=0, state=tmp_path / "broken"), "serve.audit-broken"),
            (Settings(port=port, state=tmp_path / "fine"), "serve.cannot-listen"),
            (
                Settings(port=0, state=tmp_path / "s", limits=Limits(storage="nowhere://")),
                "serve.bad-storage",
            ),
        ):
            with pytest.raises(ShuyuanError) as caught:
                serve([], settings)
            assert caught.value.code == code
    log.close()
