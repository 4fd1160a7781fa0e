"""A loaded model and the one thread that it belongs to: commands go in, pieces of text come out."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ServeError, ShuyuanError

if TYPE_CHECKING:
    from ..loaded import LoadedRun

_log = logging.getLogger(__name__)
T = TypeVar("T")
Command = Callable[
    [Exception | None], None
]  # given an error, it tells whoever waits that the thread has ended
Settings = dict[str, Any]  # of one text, as `inference.Engine.submit` takes them
Arrived = asyncio.Queue[list[tuple[int, Any]]]  # pieces with their text's number, or an error
A_TEXT_SECONDS = 0.005  # pieces of a text wait so long for more, times the texts on their way: what an event costs is then a few percent
LONGEST_SECONDS = 0.05  # that they wait: a reader sees no difference


class Text:
    """One text while it is computed: its pieces arrive here, on the event loop.

    Attributes:
        request: the engine's, with its counts.
        taken: tokens of the prompt and of the pieces that were looked at; the engine may be further on already.
    """

    def __init__(self, request: Any) -> None:
        self.request = request
        self.finished = False
        self.taken = request.prompt_tokens

    def next_tokens(self, most: int) -> list[int]:
        """The last tokens of the answer as of its next piece."""
        self.taken += 1
        tokens: list[int] = self.request.tokens[
            max(self.request.prompt_tokens, self.taken - most) : self.taken
        ]
        return tokens


class Worker:
    """Runs a model in a thread of its own.

    Args:
        load: loads the model; called in that thread.

    Attributes:
        ready: done once it is loaded.
    """

    def __init__(self, load: Callable[[], LoadedRun]) -> None:
        self._load = load
        self._loaded: LoadedRun | None = None
        self._loop = asyncio.get_running_loop()
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        # By the engine's request: who waits for its pieces, and its number there. These are touched by the thread alone.
        self._receivers: dict[Any, tuple[Arrived, int]] = {}
        self._said: dict[Arrived, list[tuple[int, Any]]] = {}
        self._told_at = 0.0
        self._searches: deque[tuple[Generator[None, None, Any], asyncio.Future[Any]]] = deque()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.broken = False
        self._lock = threading.Lock()  # nobody may wait for a thread that has ended
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def loaded(self) -> LoadedRun:
        """The model. Others than the thread may look at what never changes of it.

        Raises:
            ServeError: it broke down.
        """
        if self._loaded is None:
            raise failed()
        return self._loaded

    # -- from the event loop --

    async def do(self, work: Callable[[LoadedRun], T]) -> T:
        """What some work with the model comes to; it is done between two steps."""
        result: asyncio.Future[T] = self._loop.create_future()

        def command(end: Exception | None) -> None:
            if end is not None or result.cancelled():
                self._tell(_settle, result, None, end)
                return
            try:
                value = work(self.loaded)
            except Exception as error:
                self._tell(_settle, result, None, error)
            else:
                self._tell(_settle, result, value, None)

        self._put(command)
        return await result

    async def search(self, begin: Callable[[LoadedRun], Generator[None, None, T]]) -> T:
        """What a search comes to; texts go on between its steps, and other searches wait for it, since each takes memory."""
        result: asyncio.Future[T] = self._loop.create_future()
        await self.do(lambda loaded: self._searches.append((begin(loaded), result)))
        return await result

    async def texts(
        self, prompts: Sequence[tuple[Any, Settings]]
    ) -> AsyncGenerator[list[tuple[int, Text, Any]], None]:
        """Continues prompts together; gives (number of the prompt, the text, its next piece), as many as there are since the last time.

        When the iterator is closed early, the engine gives the slots to others before its next step.

        Args:
            prompts: each with its settings.

        Raises:
            ShuyuanError: a setting makes no sense, or the model failed.
        """
        arrived: Arrived = asyncio.Queue()
        texts: list[Text] = []

        def begin(loaded: LoadedRun) -> list[Any]:
            engine: Any = loaded.engine
            requests: list[Any] = []
            try:
                for number, (prompt, settings) in enumerate(prompts):
                    request = engine.submit(prompt, **settings)
                    requests.append(request)
                    self._receivers[request] = arrived, number
            except BaseException:
                self._drop(requests)
                raise
            begun.extend(requests)
            return requests

        begun: list[Any] = []
        try:
            texts = [Text(request) for request in await self.do(begin)]
            while not all(text.finished for text in texts):
                pieces = await arrived.get()
                while not arrived.empty():
                    pieces += arrived.get_nowait()
                yield [_come(texts[number], number, piece) for number, piece in pieces]
        finally:
            with suppress(ServeError):  # a broken model holds no slots
                self._put(lambda end: self._drop(begun))

    async def close(self) -> None:
        """Ends the thread, after what it is doing now."""
        with suppress(ServeError):
            self._put(None)
        await asyncio.to_thread(self._thread.join)

    def _put(self, command: Command | None) -> None:
        with self._lock:
            if self.broken:
                raise failed()
            self._commands.put(command)

    # -- in the thread --

    @property
    def _engine(self) -> Any:
        return self.loaded.engine

    def _run(self) -> None:
        try:
            self._loaded = self._load()
            if self.loaded.task.output == "tokens":
                self._engine.reserve()  # slots for all, so that nobody waits for longer ones
        except Exception as error:
            self._end(error)
            self._tell(_settle, self.ready, None, error)
            return
        self._tell(_settle, self.ready, None, None)
        try:
            while self._obey():
                if self._receivers:
                    hurry = [self._deliver(request, piece) for request, piece in self._engine.step()]
                    wait = min(LONGEST_SECONDS, A_TEXT_SECONDS * len(self._receivers))
                    if any(hurry) or time.monotonic() - self._told_at >= wait:
                        self._hand_over()
                if self._searches:
                    self._search_on()
            self._end(failed())
        except Exception as error:
            _log.error(
                "the model failed: %s", type(error).__name__, exc_info=_log.isEnabledFor(logging.DEBUG)
            )
            self._end(failed())
        self._loaded = None

    def _end(self, error: Exception) -> None:
        """Tells everybody who waits."""
        with self._lock:
            self.broken = True
        for arrived, number in self._receivers.values():
            self._said.setdefault(arrived, []).append((number, error))
        self._hand_over()
        self._receivers.clear()
        for _, result in self._searches:
            self._tell(_settle, result, None, error)
        while not self._commands.empty():
            if (command := self._commands.get()) is not None:
                command(error)

    def _obey(self) -> bool:
        """Does what was asked until now; waits for it where there is nothing to compute. False: it was asked to end."""
        count = self._commands.qsize() or (0 if self._receivers or self._searches else 1)
        for _ in range(count):
            command = self._commands.get()
            if command is None:
                return False
            command(None)
        return True

    def _search_on(self) -> None:
        """One step of the search that is first."""
        search, result = self._searches[0]
        try:
            if not result.cancelled():
                next(search)
                return
            search.close()
        except StopIteration as end:
            self._tell(_settle, result, end.value, None)
        except Exception as error:
            self._tell(_settle, result, None, error)
        self._searches.popleft()

    def _deliver(self, request: Any, piece: Any) -> bool:
        """Puts a piece to those that are handed over together. True: somebody waits for it, since it is a text's first or last."""
        receiver = self._receivers.get(request)
        if receiver is None:
            return False
        arrived, number = receiver
        self._said.setdefault(arrived, []).append((number, piece))
        if piece.finish is not None:
            del self._receivers[request]
        return piece.finish is not None or request.completion_tokens == 1

    def _hand_over(self) -> None:
        """Wakes the event loop, once for all."""
        if self._said:
            said, self._said = self._said, {}
            self._tell(_put_all, said)
        self._told_at = time.monotonic()

    def _drop(self, requests: Sequence[Any]) -> None:
        for request in requests:
            if self._receivers.pop(request, None) is not None:
                self._engine.cancel(request)

    def _tell(self, call: Callable[..., Any], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)


async def whole(
    pieces: AsyncGenerator[tuple[int, Text, Any], None], count: int
) -> tuple[list[str], list[Text]]:
    """The texts that pieces make up, and their requests.

    Args:
        pieces: as of `Worker.texts`; it is used up, and closed.
        count: prompts.
    """
    written = [""] * count
    texts: dict[int, Text] = {}
    async with aclosing(pieces):
        async for number, text, piece in pieces:
            written[number] += piece.text
            texts[number] = text
    return written, [texts[number] for number in range(count)]


def _put_all(said: dict[Arrived, list[tuple[int, Any]]]) -> None:
    for arrived, pieces in said.items():
        arrived.put_nowait(pieces)


def _come(text: Text, number: int, piece: Any) -> tuple[int, Text, Any]:
    if isinstance(piece, Exception):
        raise piece
    text.finished = piece.finish is not None
    return number, text, piece


def _settle(future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def failed() -> ShuyuanError:
    """The error for a model that broke down; the next request loads it again."""
    return ServeError(
        "serve.model-failed", "The model failed at this.", status=500, mend="Try again; it is loaded anew."
    )
