"""A run whose model repeats what it is told, a character a token, so that tests know what must come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from shuyuan.errors import ShuyuanError
from shuyuan.loaded import LoadedRun
from shuyuan.serve.limits import Line
from shuyuan.serve.settings import Limits
from shuyuan.serve.shelf import PLACES, Model
from shuyuan.tasks import TASKS, Mixed, Task

CONTEXT = 512
BREAKS = "\x07boom"  # at this in its prompt the model breaks


@dataclass(eq=False)
class Request:
    """One text: what it will be, how far it came."""

    script: str
    settings: dict[str, Any]
    prompt_tokens: int
    completion_tokens: int = 0
    written: str = ""
    tokens: list[int] = field(default_factory=list)
    given: int = 0


@dataclass
class Piece:
    """As the engine gives them."""

    text: str
    tokens: list[Any] = field(default_factory=list)
    finish: str | None = None


class Engine:
    """The face of `inference.Engine`, without a model."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds  # of one step
        self.active: list[Request] = []
        self.queue: deque[Request] = deque()
        self.seen: list[Request] = []
        self.cancelled = 0
        self.says: Callable[[str], str] = str  # of a prompt, what the model continues it with

    def reserve(self) -> None:
        """There is nothing to set aside."""

    def submit(self, prompt: str | Sequence[int], **settings: Any) -> Request:
        if settings["max_tokens"] < 1:
            raise ShuyuanError("inference.bad-setting", "`max_tokens` is refused.", mend="At least 1.")
        text = prompt if isinstance(prompt, str) else "".join(map(chr, prompt[1:]))
        drawn = "" if settings["temperature"] == 0 else f"{settings['seed']}|"
        request = Request(f"{drawn}{self.says(text)}", settings, len(prompt), tokens=[0] * len(prompt))
        self.queue.append(request)
        self.seen = [*self.seen[-1000:], request]
        return request

    def step(self) -> Iterator[tuple[Request, Piece]]:
        time.sleep(self.seconds)
        while self.queue and len(self.active) < PLACES:
            self.active.append(self.queue.popleft())
        for request in list(self.active):
            piece = self._next(request)
            if piece.finish is not None:
                self.active.remove(request)
            yield request, piece

    def cancel(self, request: Request) -> None:
        self.cancelled += 1
        for where in (self.active, self.queue):
            if request in where:
                where.remove(request)

    def _next(self, request: Request) -> Piece:
        settings, place = request.settings, request.completion_tokens
        if place >= len(request.script):
            return self._end(request, "stop", [])
        token = request.script[place]
        if request.script.startswith(BREAKS, place):
            raise RuntimeError("a model that breaks")
        request.written += token
        request.completion_tokens += 1
        request.tokens.append(ord(token))
        told = (
            []
            if settings.get("logprobs") is None
            else [(token, -0.5, [(token, -0.5)] * settings["logprobs"])]
        )
        stops = settings.get("stop", ())
        for stop in stops:
            if request.written.endswith(stop):
                request.written = request.written.removesuffix(stop)
                return self._end(request, "stop", told)
        if request.completion_tokens >= settings["max_tokens"]:
            return self._end(request, "length", told)
        held = max(
            (size for stop in stops for size in range(len(stop)) if request.written.endswith(stop[:size])),
            default=0,
        )
        return Piece(self._given(request, len(request.written) - held), told)

    def _end(self, request: Request, finish: str, told: list[Any]) -> Piece:
        return Piece(self._given(request, len(request.written)), told, finish)

    def _given(self, request: Request, end: int) -> str:
        text = request.written[request.given : end]
        request.given = max(request.given, end)
        return text


class Run:
    """The face of `LoadedRun`, as far as the server knows it."""

    other_task = LoadedRun.other_task
    part = LoadedRun.part

    def __init__(self, task: str = "mixed", seconds: float = 0.0) -> None:
        self.task: Task = TASKS[task].configured(_setting())
        self.recipe = SimpleNamespace(task=task)
        self.engine = Engine(seconds)
        self.searches = 0  # that are on their way
        self.context = CONTEXT
        self.entries = 0x110000
        self.reads_images = False
        self.predictor = SimpleNamespace(
            tokens=self._tokens,
            fits=self._fits,
            searching=self._searching,
            decode=lambda tokens: "".join(map(chr, tokens)),
            end_id=0,
            task=SimpleNamespace(parse=str.strip),
        )

    def encode(self, text: str) -> list[int]:
        return [0, *map(ord, text)]

    def classify(self, records: Sequence[Any]) -> Iterator[dict[str, float]]:
        for record in records:
            good = len(record) % 2 == 0
            yield {"good" if good else "bad": 0.75, "bad" if good else "good": 0.25}

    def _tokens(self, prompt: Any, most: int) -> list[int]:
        ids = self.encode("".join(piece.text for piece in prompt))
        if len(ids) >= self.context:
            raise ShuyuanError("inference.too-long", "It is too long.", mend="Shorten it.")
        return ids

    def _searching(
        self, ids: Sequence[int], *, beams: int, max_tokens: int, **_: Any
    ) -> Generator[None, None, list[int]]:
        """The continuation behind the number of beams, a character a step."""
        written = f"{beams}:" + self.engine.says("".join(map(chr, ids[1:])))
        self.searches += 1
        try:
            for _character in written[:max_tokens]:
                time.sleep(self.engine.seconds)
                yield
        finally:
            self.searches -= 1
        return [ord(character) for character in written[:max_tokens]]

    def _fits(self, prompt: Any, most: int) -> bool:
        return len(self.encode("".join(piece.text for piece in prompt))) <= self.context - most


def _setting() -> Any:
    from shuyuan.tasks import Setting

    return Setting()


def model(name: str = "demo", task: str = "mixed", limits: Limits | None = None, size: int = 1000) -> Model:
    """A model on a shelf."""
    return Model(
        name, Path(name), None, "original", task, 1_700_000_000, size, Line(PLACES, limits or Limits())
    )


__all__ = ["CONTEXT", "Engine", "Mixed", "Run", "model"]
