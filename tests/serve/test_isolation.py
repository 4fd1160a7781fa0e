"""Many users at once: nobody reads of another, and nobody who goes away leaves anything behind."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.serve.running import Door, running, text_of_events


def body(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": "demo", "prompt": prompt, "temperature": 0, "max_tokens": 200, **more}


def test_fifty_users_and_their_canaries(tmp_path: Path) -> None:
    """Streams, whole answers, chats and batches side by side; each answer holds its own canary and no other."""
    with running(tmp_path) as door:
        keys = [door.key(f"user-{number}") for number in range(50)]
        canaries = [f"canary-{number:04d}-{number * 7919 % 10007:05d}" for number in range(50)]

        def ask(number: int, kind: int) -> str:
            key, canary = keys[number], canaries[number]
            if kind == 0:
                asked = body(canary, stream=True)
                return text_of_events(door.ask("POST", "/v1/completions", asked, key).body.decode())
            if kind == 1:
                return door.ask("POST", "/v1/completions", body(canary, n=3), key).body.decode()
            if kind == 2:
                chat = {"model": "demo", "messages": [{"role": "user", "content": canary}], "temperature": 0}
                return door.ask("POST", "/v1/chat/completions", chat, key).body.decode()
            batch = {"model": "demo", "text": [canary, f"{canary} again"]}
            return door.ask("POST", "/v1/summarize", batch, key).body.decode()

        jobs = [(number, kind) for kind in range(4) for number in range(50)]
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda job: ask(*job), jobs))
        for (number, _), answer in zip(jobs, answers, strict=True):
            assert canaries[number] in answer
            assert not [other for other in canaries if other in answer and other != canaries[number]]
        # A prefix may be used again within one tenant alone, and a tenant is a key.
        seen = door.runs["demo"].engine.seen
        tenants: dict[str, set[str]] = {}
        for request in seen:
            (canary,) = [each for each in canaries if each in request.script]
            tenants.setdefault(canary, set()).add(request.settings["tenant"])
        assert all(len(names) == 1 and None not in names for names in tenants.values())
        assert len(set.union(*tenants.values())) == 50


def begin(door: Door, key: str, model: str = "demo", prompt: str = "x" * 200) -> socket.socket:
    """A stream of which the head was read."""
    connection = door.send("/v1/completions", {**body(prompt, stream=True), "model": model}, key)
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    return connection


def cut(connection: socket.socket, hard: bool) -> None:
    """Goes away, with a reset or in good order."""
    if hard:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_client_that_goes_away_frees_its_slot(tmp_path: Path) -> None:
    with running(tmp_path, seconds=0.02) as door:
        key = door.key()
        connection = begin(door, key)
        engine = door.runs["demo"].engine
        (request,) = engine.active
        cut(connection, hard=True)
        door.wait(lambda: not engine.active)
        assert request.completion_tokens < 100
        assert engine.cancelled == 1
        (line,) = door.server.usage.all()  # what was written until then is counted
        assert 0 < line["completion_tokens"] < 100
        metrics = door.server.metrics.render().decode()
        assert 'shuyuan_decisions_total{decision="gone",model="demo"} 1.0' in metrics


@pytest.mark.parametrize(
    "path, asked",
    [("/v1/completions", body("x" * 200)), ("/v1/summarize", {"model": "demo", "text": "x" * 200})],
)
def test_so_does_one_that_waits_for_a_whole_answer(tmp_path: Path, path: str, asked: dict[str, Any]) -> None:
    with running(tmp_path, seconds=0.02) as door:
        key = door.key()
        connection = door.send(path, asked, key)
        door.wait(lambda: "demo" in door.runs and bool(door.runs["demo"].engine.active))
        engine = door.runs["demo"].engine
        cut(connection, hard=False)
        door.wait(lambda: not engine.active)
        model = door.server.shelf.find("demo")
        door.wait(lambda: model.line.free == model.line.places and model.users == 0)


@pytest.mark.slow
def test_a_thousand_disconnects(tmp_path: Path) -> None:
    with running(tmp_path, seconds=0.001) as door:
        key = door.key()

        def one(number: int) -> None:
            connection = begin(door, key)
            time.sleep(number % 7 / 1000)
            cut(connection, hard=number % 2 == 0)

        def settled(tasks: int) -> int:
            """Memory at most, once nothing is left of the requests and few tasks are."""
            model = door.server.shelf.find("demo")
            door.wait(lambda: model.users == 0 and not door.runs["demo"].engine.active, 60)
            door.wait(lambda: len(asyncio.all_tasks(door.loop)) <= tasks, 60)
            assert model.line.free == model.line.places and model.line.waiting == 0
            gc.collect()
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        idle = len(asyncio.all_tasks(door.loop))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(200)))
            before = settled(idle + 2)
            list(pool.map(one, range(1000)))
        assert (settled(idle + 2) - before) / 1024 < 30


def test_a_revoked_key_is_cut_off_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    with running(tmp_path, seconds=0.05) as door:
        key = door.key("li")
        connection = begin(door, key)
        door.server.keys.revoke("li")
        connection.settimeout(30)
        raw = b""
        while part := connection.recv(65536):
            raw += part
            if b"serve.no-key" in raw:
                break
        assert b"serve.no-key" in raw and b"[DONE]" not in raw
        door.wait(lambda: not door.runs["demo"].engine.active)
        connection.close()
