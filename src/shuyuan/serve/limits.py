"""What one key may take of the machine: requests and tokens a minute, and its fair share of the places at a model."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from limits import RateLimitItemPerMinute
from limits.aio.storage import Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConfigurationError
from limits.storage import storage_from_string

from ..errors import ServeError
from .auth import Key
from .settings import Limits


class Gate:
    """Counts the requests of each key.

    Args:
        limits: how many there may be, and where they are counted.
    """

    def __init__(self, limits: Limits) -> None:
        try:
            storage = storage_from_string(f"async+{limits.storage}")
        except (ConfigurationError, ValueError) as error:
            raise ServeError(
                "serve.bad-storage",
                f"Requests cannot be counted there ({error}).",
                where=limits.storage,
                mend="Give an address that the library limits knows, such as memory:// or redis://HOST:PORT.",
            ) from None
        assert isinstance(storage, Storage)
        self._counted = SlidingWindowCounterRateLimiter(storage)
        self._rate = RateLimitItemPerMinute(limits.requests_per_minute)

    async def enter(self, key: Key) -> None:
        """Counts a request.

        Raises:
            ServeError: the key has had its number.
        """
        if not await self._counted.hit(self._rate, key.name):
            window = await self._counted.get_window_stats(self._rate, key.name)
            raise too_many("requests", window.reset_time - time.time())


class Tokens:
    """A bucket of tokens for each key, which fills up again with time: requests alone bound no cost.

    Args:
        per_minute: tokens that flow in, and that the bucket holds.
        clock: in seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute
        self._rate = per_minute / 60.0
        self._clock = clock
        self._levels: dict[str, tuple[float, float]] = {}  # level and when; a full bucket is not kept

    def level(self, key: Key) -> float:
        """Tokens in a key's bucket."""
        level, when = self._levels.get(key.name, (float(self._most), self._clock()))
        return min(self._most, level + (self._clock() - when) * self._rate)

    def take(self, key: Key, tokens: int) -> None:
        """Takes what a request may cost at most.

        Raises:
            ServeError: there is not that much now, or ever.
        """
        level = self.level(key)
        if tokens > self._most:
            raise ServeError(
                "serve.too-dear",
                f"The request may cost {tokens:,} tokens, and a key has {self._most:,} a minute.",
                where="max_tokens",
                mend="Ask for fewer tokens or answers.",
            )
        if tokens > level:
            raise too_many("tokens", (tokens - level) / self._rate)
        self._set(key, level - tokens)

    def give_back(self, key: Key, tokens: int) -> None:
        """Puts back what a request did not need."""
        self._set(key, min(self._most, self.level(key) + tokens))

    def _set(self, key: Key, level: float) -> None:
        if level >= self._most:
            self._levels.pop(key.name, None)
        else:
            self._levels[key.name] = level, self._clock()


class Line:
    """The places at a model, and who waits for them: keys take turns, however many requests each has.

    Args:
        places: texts that the model computes at once.
        limits: of one key, and of those who wait.
    """

    def __init__(self, places: int, limits: Limits) -> None:
        self.places = places
        self.free = places
        self._limits = limits
        self._share = min(limits.streams, places)
        self._active: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def place(self, key: Key, count: int = 1) -> AsyncIterator[int]:
        """Holds some places, as many as the key may have at most; gives their number.

        Raises:
            ServeError: too many wait, or too long.
        """
        count = min(count, self._share)
        await self._wait(key.name, count)
        try:
            yield count
        finally:
            self._leave(key.name, count)

    async def _wait(self, name: str, count: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._make_room(name)
        self._waiting.setdefault(name, deque()).append((count, turn))
        self._admit()
        try:
            async with asyncio.timeout(self._limits.queue_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave(name, count)  # the place came as the one who waited went
            else:
                self._forget(name, turn)
            if isinstance(error, TimeoutError):
                raise too_many("places", 1.0) from None
            raise

    def _make_room(self, name: str) -> None:
        """Where all of the line is taken, whoever has most in it gives way."""
        if self.waiting < self._limits.queue:
            return
        longest = max(self._waiting, key=lambda each: len(self._waiting[each]))
        if len(self._waiting[longest]) <= len(self._waiting.get(name, ())) + 1:
            raise too_many("places", 1.0)
        _, last = self._waiting[longest].pop()
        if not last.done():  # else who waited there is about to go
            last.set_exception(too_many("places", 1.0))

    def _admit(self) -> None:
        """Gives free places to whoever's turn it is. One who needs more than are free is waited for, and not passed by."""
        while (name := self._next()) is not None:
            count, turn = self._waiting[name].popleft()
            self._waiting.move_to_end(name)
            if not self._waiting[name]:
                del self._waiting[name]
            if not turn.done():  # else who waited there is about to go
                self.free -= count
                self._active[name] += count
                turn.set_result(None)

    def _next(self) -> str | None:
        """The key whose turn it is, if there are the places that it needs."""
        for name, queue in self._waiting.items():
            count, _ = queue[0]
            if self._active[name] + count <= self._share:
                return name if count <= self.free else None
        return None

    def _leave(self, name: str, count: int) -> None:
        self.free += count
        self._active[name] -= count
        if not self._active[name]:
            del self._active[name]
        self._admit()

    def _forget(self, name: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(name)
        if queue is not None:
            kept = deque(each for each in queue if each[1] is not turn)
            if kept:
                self._waiting[name] = kept
            else:
                del self._waiting[name]
        self._admit()


def too_many(what: str, seconds: float) -> ServeError:
    """The refusal of a key that has had its share.

    Args:
        what: is taken, in the plural.
        seconds: until there is more; told in whole ones, at least 1.
    """
    wait = max(1, math.ceil(seconds))
    return ServeError(
        "serve.too-many",
        f"All {what} that there are for this key are taken.",
        status=429,
        headers={"Retry-After": str(wait)},
        mend=f"Try again in {wait} seconds.",
    )
