"""Mixed load for a while: nothing grows. SHUYUAN_SOAK_SECONDS makes it longer, as `make soak` does."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from shuyuan.serve.audit_log import verify
from tests.serve import fake
from tests.serve.running import Door, running
from tests.serve.test_isolation import begin, cut

SECONDS = float(os.environ.get("SHUYUAN_SOAK_SECONDS", "20"))
USERS = 12


def resident_mib() -> float:
    """Memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def requests(door: Door, key: str, choose: random.Random) -> None:
    """One of the things that users do."""
    chat = [{"role": "user", "content": "Hello. " * choose.randint(1, 20)}]
    body: dict[str, Any] = {"model": "demo", "temperature": 0, "max_tokens": choose.randint(1, 100)}
    kind = choose.randrange(8)
    if kind == 0:
        cut(begin(door, key), hard=choose.random() < 0.5)
    elif kind == 1:
        assert (
            door.ask("POST", "/v1/chat/completions", {**body, "messages": chat, "stream": True}, key).status
            == 200
        )
    elif kind == 2:
        assert door.ask("POST", "/v1/chat/completions", {**body, "messages": chat, "n": 3}, key).status == 200
    elif kind == 3:
        assert (
            door.ask("POST", "/v1/summarize", {"model": "demo", "text": ["One.", "Two."]}, key).status == 200
        )
    elif kind == 4:
        assert door.ask("POST", "/v1/classify", {"model": "labels", "text": "x" * 1000}, key).status == 200
    elif kind == 5:
        assert door.ask("POST", "/v1/completions", {**body, "prompt": "x" * 10**6}, key).status == 400
    elif kind == 6:
        assert door.ask("POST", "/v1/completions", b"[" * 10_000, key).status == 400
    else:
        assert door.ask("GET", "/v1/models", key="wrong").status == 401


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 3 + 300)
def test_nothing_grows(tmp_path: Path, record_testsuite_property: Callable[[str, object], None]) -> None:
    models = [fake.model("demo"), fake.model("labels", "sentiment")]
    with running(tmp_path, models, seconds=0.0005) as door:
        keys = [door.key(f"user-{number}") for number in range(USERS)]
        failures: list[BaseException] = []
        end = time.monotonic() + SECONDS * 1.3

        def user(number: int) -> None:
            choose = random.Random(number)
            try:
                while time.monotonic() < end and not failures:
                    requests(door, keys[number], choose)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=user, args=(number,)) for number in range(USERS)]
        for thread in threads:
            thread.start()
        time.sleep(SECONDS * 0.3)  # what is made once is made by now
        gc.collect()
        before = resident_mib()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]
        door.wait(lambda: all(model.users == 0 for model in door.server.shelf.models.values()), 60)
        gc.collect()
        grown = resident_mib() - before
        record_testsuite_property("grown_mib", round(grown, 1))  # `--junitxml FILE` tells it
        record_testsuite_property("resident_mib", round(before, 1))
        assert grown < 40
        with suppress(RuntimeError):  # the set may change while it is counted
            assert len(asyncio.all_tasks(door.loop)) < 3 * USERS
        assert all(model.line.free == model.line.places for model in door.server.shelf.models.values())
        asked = sum(line["requests"] for line in door.server.usage.all())
    record_testsuite_property("requests", asked)
    assert asked > 20
    assert verify(tmp_path)["ok"]
