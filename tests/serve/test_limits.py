"""What one key may take: requests, tokens, places, and how they are shared."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shuyuan.errors import ServeError
from shuyuan.serve import Key
from shuyuan.serve.limits import Line, Tokens
from shuyuan.serve.settings import Limits
from tests.serve import fake
from tests.serve.running import MANY, running

LI, WANG = Key("li", "user"), Key("wang", "user")


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 1500), st.integers(0, 1500))))
def test_no_key_has_more_tokens_than_flow_in(asked: list[tuple[float, int, int]]) -> None:
    now = [0.0]
    tokens, used = Tokens(600, lambda: now[0]), 0
    for wait, most, needed in asked:
        now[0] += wait
        try:
            tokens.take(LI, most)
        except ServeError:
            continue
        needed = min(needed, most)
        tokens.give_back(LI, most - needed)
        used += needed
        assert used <= 600 + now[0] * 10 + 1e-6
    assert tokens.level(WANG) == 600


def test_a_bucket_says_when_to_come_again() -> None:
    now = [0.0]
    tokens = Tokens(600, lambda: now[0])
    tokens.take(LI, 600)
    with pytest.raises(ServeError) as caught:
        tokens.take(LI, 100)
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "10"})
    now[0] = 10.0
    tokens.take(LI, 100)
    with pytest.raises(ServeError, match=r"serve\.too-dear") as caught:
        tokens.take(LI, 601)
    assert caught.value.status == 400  # waiting would not help


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.integers(0, 3)), max_size=40),
    st.integers(1, 6),
)
def test_places_are_never_given_twice_nor_lost(asked: list[tuple[str, int, int]], share: int) -> None:
    async def main() -> None:
        line = Line(4, Limits(streams=share, queue=8, queue_seconds=5))
        held: dict[str, int] = dict.fromkeys("abc", 0)

        async def one(name: str, count: int, ticks: int) -> None:
            try:
                async with line.place(Key(name, "user"), count) as got:
                    held[name] += got
                    assert sum(held.values()) <= line.places - line.free <= 4
                    assert held[name] <= min(share, 4)
                    try:
                        for _ in range(ticks):
                            await asyncio.sleep(0)
                    finally:
                        held[name] -= got
            except ServeError as error:
                assert error.code == "serve.too-many"

        doing = [asyncio.ensure_future(one(*each)) for each in asked]
        for number, task in enumerate(doing):
            if number % 7 == 3:
                await asyncio.sleep(0)
                task.cancel()
        ended = await asyncio.gather(*doing, return_exceptions=True)
        assert not [each for each in ended if isinstance(each, Exception)]
        assert line.free == 4 and line.waiting == 0

    asyncio.run(main())


def test_keys_take_turns() -> None:
    """One with a hundred requests in the line does not keep another waiting for more than one of them."""

    async def main() -> None:
        line = Line(1, Limits(streams=1, queue=1000))
        order: list[str] = []

        async def one(key: Key) -> None:
            async with line.place(key):
                order.append(key.name)
                await asyncio.sleep(0)

        flood = [asyncio.ensure_future(one(LI)) for _ in range(100)]
        await asyncio.sleep(0)
        await asyncio.gather(*(one(WANG) for _ in range(3)))
        assert order.index("wang") <= 3 and len(order) <= 10
        await asyncio.gather(*flood)

    asyncio.run(main())


def test_whoever_fills_the_line_gives_way() -> None:
    async def main() -> None:
        line = Line(1, Limits(streams=1, queue=4))
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(line.place(LI))

            async def one(key: Key) -> str:
                try:
                    async with line.place(key):
                        return "served"
                except ServeError as error:
                    assert error.headers["Retry-After"]
                    return error.code

            flood = [asyncio.ensure_future(one(LI)) for _ in range(6)]
            await asyncio.sleep(0)
            other = asyncio.ensure_future(one(WANG))
            await asyncio.sleep(0)
        assert await other == "served"
        assert sorted(await asyncio.gather(*flood)) == ["serve.too-many"] * 3 + ["served"] * 3

    asyncio.run(main())


def test_a_place_that_comes_as_its_waiter_goes_away_is_free_again() -> None:
    async def main() -> None:
        line = Line(1, Limits(streams=1))

        async def one() -> None:
            async with line.place(WANG):
                raise AssertionError

        async with line.place(LI):
            waiting = asyncio.ensure_future(one())
            await asyncio.sleep(0)
        waiting.cancel()  # the place is given already, and nobody has woken up for it
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled() and line.free == 1

    asyncio.run(main())


def test_who_waits_too_long_is_told() -> None:
    async def main() -> None:
        line = Line(1, Limits(queue_seconds=0.01))
        async with line.place(LI):
            with pytest.raises(ServeError, match=r"serve\.too-many"):
                async with line.place(WANG):
                    raise AssertionError
        assert line.free == 1 and line.waiting == 0

    asyncio.run(main())


BODY = {"model": "demo", "prompt": "Hello.", "temperature": 0}


def test_requests_of_a_key_are_counted(tmp_path: Path) -> None:
    limits = Limits(requests_per_minute=5)
    with running(tmp_path, limits=limits) as door:
        keys = [door.key(name) for name in ("li", "wang")]
        answers = [door.ask("GET", "/v1/models", key=keys[0]) for _ in range(8)]
        assert [answer.status for answer in answers] == [200] * 5 + [429] * 3
        assert answers[-1].code == "serve.too-many"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert door.ask("GET", "/v1/models", key=keys[1]).status == 200


def test_tokens_of_a_key_are_counted_and_given_back(tmp_path: Path) -> None:
    limits = Limits(tokens_per_minute=200, requests_per_minute=1000)
    with running(tmp_path, limits=limits) as door:
        key = door.key()
        statuses = [
            door.ask("POST", "/v1/completions", {**BODY, "max_tokens": 100}, key).status for _ in range(20)
        ]
        # A request may cost 107 tokens and needs 13; without giving back, one alone would fit.
        assert statuses.count(200) >= 7
        assert 429 in statuses
        dear = door.ask("POST", "/v1/completions", {**BODY, "max_tokens": 400}, key)
        assert (dear.status, dear.code) == (400, "serve.too-dear")


def test_a_key_has_its_streams_at_once_and_no_more(tmp_path: Path) -> None:
    limits = Limits(streams=2, requests_per_minute=1000, tokens_per_minute=10**6)
    with running(tmp_path, limits=limits, seconds=0.01) as door:
        key = door.key()
        body = {**BODY, "max_tokens": 40, "prompt": "x" * 40}
        most = 0
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(door.ask, "POST", "/v1/completions", body, key) for _ in range(8)]
            while not all(each.done() for each in asked):
                if "demo" in door.runs:
                    most = max(most, len(door.runs["demo"].engine.active))
                time.sleep(0.002)
        assert [each.result().status for each in asked] == [200] * 8
        assert most == 2


@pytest.mark.slow
def test_a_flood_of_one_key_slows_another_little(tmp_path: Path) -> None:
    """Of the server's own share of the time: the fake model takes as long for sixteen texts as for one."""
    limits = Limits(requests_per_minute=10**6, tokens_per_minute=10**9, streams=4)
    with running(tmp_path, [fake.model(limits=limits)], limits=limits, seconds=0.02) as door:
        one, other = door.key("li"), door.key("wang")
        body = {**BODY, "max_tokens": 20, "prompt": "x" * 20}

        def ask(key: str) -> float:
            began = time.monotonic()
            door.ask("POST", "/v1/completions", body, key)
            return time.monotonic() - began

        ask(one)
        alone = median(ask(one) for _ in range(11))
        going = True

        def flood() -> None:
            while going:
                door.ask("POST", "/v1/completions", body, other)

        with ThreadPoolExecutor(24) as pool:
            for _ in range(24):
                pool.submit(flood)
            time.sleep(1)
            beside = median(ask(one) for _ in range(11))
            going = False
        assert beside < alone * 1.2


def test_limits_are_told_to_who_may_know(tmp_path: Path) -> None:
    with running(tmp_path) as door:
        told = door.ask("GET", "/admin/limits", key=door.key("a", "auditor")).json["limits"]
        assert told["streams"] == MANY.streams
