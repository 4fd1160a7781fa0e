"""A loaded model and the one thread that it belongs to: commands go in, pieces of text come out."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
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


class Text:
    """One text while it is computed: its pieces arrive here, on the event loop.

    Attributes:
        request: the engine's, with its counts.
    """

    def __init__(self, request: Any) -> None:
        self.request = request
        self.finished = False
        self._taken = request.prompt_tokens

    def next_tokens(self, most: int) -> list[int]:
        """The last tokens of the answer as of its next piece; the engine may be further on already."""
        self._taken += 1
        tokens: list[int] = self.request.tokens[
            max(self.request.prompt_tokens, self._taken - most) : self._taken
        ]
        return tokens


class Worker:
    """Runs a model in a thread of its own.

    Args:
        load: loads the model; called in that thread.
    """

    def __init__(self, load: Callable[[], LoadedRun]) -> None:
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._receivers: dict[
            Any, Callable[[Any], None]
        ] = {}  # by the engine's request; touched by the thread alone
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.broken = False
        self._lock = threading.Lock()  # nobody may wait for a thread that has ended
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    # -- from the event loop --

    async def do(self, work: Callable[[LoadedRun], T]) -> T:
        """What some work with the model comes to; it is done between two steps."""
        result: asyncio.Future[T] = self._loop.create_future()

        def command(end: Exception | None) -> None:
            if end is not None or result.cancelled():
                self._tell(_settle, result, None, end)
                return
            try:
                value = work(self._loaded)
            except Exception as error:
                self._tell(_settle, result, None, error)
            else:
                self._tell(_settle, result, value, None)

        self._put(command)
        return await result

    async def texts(
        self, prompts: Sequence[tuple[Any, Settings]]
    ) -> AsyncGenerator[tuple[int, Text, Any], None]:
        """Continues prompts together; gives (number of the prompt, the text, its next piece) as they come.

        When the iterator is closed early, the engine gives the slots to others before its next step.

        Args:
            prompts: each with its settings.

        Raises:
            ShuyuanError: a setting makes no sense, or the model failed.
        """
        arrived: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        texts: list[Text] = []

        def begin(loaded: LoadedRun) -> list[Any]:
            engine: Any = loaded.engine
            requests: list[Any] = []
            try:
                for number, (prompt, settings) in enumerate(prompts):
                    request = engine.submit(prompt, **settings)
                    requests.append(request)
                    self._receivers[request] = partial(self._arrive, arrived, number)
            except BaseException:
                self._drop(requests)
                raise
            begun.extend(requests)
            return requests

        begun: list[Any] = []
        try:
            texts = [Text(request) for request in await self.do(begin)]
            while not all(text.finished for text in texts):
                number, piece = await arrived.get()
                if isinstance(piece, Exception):
                    raise piece
                texts[number].finished = piece.finish is not None
                yield number, texts[number], piece
        finally:
            with suppress(ServeError):  # a broken model holds no slots
                self._put(lambda end: self._drop(begun))

    def _arrive(self, arrived: asyncio.Queue[tuple[int, Any]], number: int, piece: Any) -> None:
        self._tell(arrived.put_nowait, (number, piece))

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
        return self._loaded.engine

    def _run(self) -> None:
        try:
            self._loaded = self._load()
            if self._loaded.task.output == "tokens":
                self._engine.reserve()  # slots for all, so that nobody waits for longer ones
        except Exception as error:
            self._end(error)
            self._tell(_settle, self.ready, None, error)
            return
        self._tell(_settle, self.ready, None, None)
        try:
            while self._obey():
                if self._receivers:
                    for request, piece in self._engine.step():
                        self._deliver(request, piece)
            self._end(failed())
        except Exception as error:
            _log.error(
                "the model failed: %s", type(error).__name__, exc_info=_log.isEnabledFor(logging.DEBUG)
            )
            self._end(failed())
        del self._loaded

    def _end(self, error: Exception) -> None:
        """Tells everybody who waits."""
        with self._lock:
            self.broken = True
        for receiver in self._receivers.values():
            receiver(error)
        self._receivers.clear()
        while not self._commands.empty():
            if (command := self._commands.get()) is not None:
                command(error)

    def _obey(self) -> bool:
        """Does what was asked until now; waits for it where there is nothing to compute. False: it was asked to end."""
        count = self._commands.qsize() or (0 if self._receivers else 1)
        for _ in range(count):
            command = self._commands.get()
            if command is None:
                return False
            command(None)
        return True

    def _deliver(self, request: Any, piece: Any) -> None:
        receiver = self._receivers.get(request)
        if receiver is None:
            return
        if piece.finish is not None:
            del self._receivers[request]
        receiver(piece)

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
    """The texts that pieces make up, and their requests."""
    written = [""] * count
    texts: dict[int, Text] = {}
    async with aclosing(pieces):
        async for number, text, piece in pieces:
            written[number] += piece.text
            texts[number] = text
    return written, [texts[number] for number in range(count)]


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
