"""Models are loaded when first asked for, and put away when memory is wanted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from shuyuan.errors import ServeError
from shuyuan.serve.shelf import Shelf
from tests.serve import fake
from tests.serve.running import running


def shelf(memory: int | None, *sizes: int) -> tuple[Shelf, list[str]]:
    loaded: list[str] = []

    def load(path: Path, *_: Any) -> Any:
        loaded.append(path.name)
        return fake.Run()

    return Shelf([fake.model(f"m{n}", size=size) for n, size in enumerate(sizes)], memory, load), loaded


def test_models_are_loaded_once_and_only_when_asked_for() -> None:
    async def main() -> None:
        books, loaded = shelf(None, 10, 10)

        async def ask() -> None:
            async with books.worker(books.find("m1")) as worker:
                assert await worker.do(lambda run: run.task.name) == "mixed"

        assert loaded == []
        await asyncio.gather(*(ask() for _ in range(8)))
        assert loaded == ["m1"]
        await books.close()

    asyncio.run(main())


def test_what_was_not_used_for_longest_gives_way() -> None:
    async def main() -> None:
        books, _ = shelf(25, 10, 10, 10)
        for name in ("m0", "m1", "m0", "m2"):
            async with books.worker(books.find(name)):
                pass
        assert [name for name, model in books.models.items() if model.worker] == ["m0", "m2"]
        async with books.worker(books.find("m0")), books.worker(books.find("m2")):
            with pytest.raises(ServeError, match=r"serve\.too-many"):
                async with books.worker(books.find("m1")):
                    raise AssertionError("what is used is not put away")
        async with books.worker(books.find("m1")):
            assert sum(model.bytes for model in books.models.values() if model.worker) <= 25
        await books.close()

    asyncio.run(main())


def test_a_model_that_can_never_fit_is_refused_at_the_start() -> None:
    with pytest.raises(ServeError, match=r"serve\.no-memory"):
        shelf(25, 10, 30)


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    with running(tmp_path, [fake.model(), fake.model("broken")]) as door:
        key = door.key()
        answer = door.ask("POST", "/v1/completions", {"model": "broken", "prompt": "x"}, key)
        assert (answer.status, answer.code) == (500, "serve.cannot-load")
        assert door.ask("POST", "/v1/completions", {"model": "demo", "prompt": "x"}, key).status == 200
