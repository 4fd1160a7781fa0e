"""One request to a model, from its admission to its account."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import Request

from ..errors import RunError, ServeError, ShuyuanError
from .auth import Key, no_entry
from .guard import refused
from .schemas import Usage
from .shelf import Model, no_model
from .worker import Text, Worker

if TYPE_CHECKING:
    from ..loaded import LoadedRun
    from .app import Server

LONGEST_TOKEN = (
    64  # characters; a text with more of them for each token that the model sees is too long unread
)
OVERLAP = 100  # characters that two parts of a text share
AT_ONCE = 8  # parts of a text that are judged between two texts of others
CHECK_SECONDS = 1.0  # between two looks whether a key is still good, while its answer is written


@dataclass(frozen=True)
class Piece:
    """A piece of an answer."""

    text: str = ""
    tokens: Sequence[Any] = ()
    finish: str | None = None


class Visit:
    """What a request takes of a model, and what is known of it in the end.

    Attributes:
        worker: the model, loaded.
        prompt_tokens, completion_tokens: so far.
        decision: what became of it, for the audit log.
    """

    def __init__(self, server: Server, key: Key, model: Model, route: str) -> None:
        self.server, self.key, self.model, self.route = server, key, model, route
        self.worker: Worker
        self.prompt_tokens = self.completion_tokens = 0
        self.decision = "answered"
        self.guarded: Counter[str] = Counter()  # what the guard did, by its name
        self.cut = 0  # answers that repeated a record
        self.content: dict[str, Any] = {}
        self.began = time.monotonic()
        self._first: float | None = None
        self._reserved = 0

    @property
    def limits(self) -> Any:
        """As of the server's settings."""
        return self.server.settings.limits

    @property
    def usage(self) -> Usage:
        """The counts, as OpenAI's API tells them."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            total_tokens=self.prompt_tokens + self.completion_tokens,
        )

    def reserve(self, tokens: int) -> None:
        """Takes from the key's bucket what a part of the request may cost at most.

        Raises:
            ServeError: there is not that much.
        """
        self.server.tokens.take(self.key, tokens)
        self._reserved += tokens

    def places(self, count: int) -> AbstractAsyncContextManager[int]:
        """Holds places at the model, as many as the key may have at most."""
        return self.model.line.place(self.key, count)

    async def texts(
        self, prompts: Sequence[tuple[Any, dict[str, Any]]]
    ) -> AsyncGenerator[tuple[int, Text, Any], None]:
        """As of `Worker.texts`, counted; it ends when the key is revoked. What came of a text since the last time is one piece."""
        looked = time.monotonic()
        counted: dict[int, Text] = {}
        cut: set[int] = set()
        known = self.model.verbatim
        pieces = self.worker.texts(
            [(prompt, {**settings, "tenant": self.key.id or None}) for prompt, settings in prompts]
        )
        try:
            async with aclosing(pieces):
                async for several in pieces:
                    now = time.monotonic()
                    if self._first is None:
                        self._first = now
                    if now - looked > CHECK_SECONDS:
                        looked = now
                        if self.key.id and not self.server.keys.holds(self.key):
                            raise no_entry()
                    joined: dict[int, list[Any]] = {}
                    for number, text, piece in several:
                        counted[number] = text
                        if number in cut:
                            continue
                        if known is not None and known.repeats(text.next_tokens(known.span)):
                            # Whoever asks must not see that it was cut: it ends as an answer does that is at its end.
                            cut.add(number)
                            piece = Piece(finish="stop")
                        joined.setdefault(number, []).append(piece)
                    for number, said in joined.items():
                        yield number, counted[number], _joined(said)
                    if len(cut) == len(prompts):
                        return
        finally:
            self.cut += len(cut)
            # The count must not tell of a cut either: it is that of an answer which ended by itself.
            self.completion_tokens += sum(
                text.taken - text.request.prompt_tokens if number in cut else text.request.completion_tokens
                for number, text in counted.items()
            )

    async def search(self, ids: Sequence[int], most: int, settings: dict[str, Any]) -> str:
        """What beam search makes of a prompt, counted."""
        tokens = await self.worker.search(
            lambda run: run.predictor.searching(ids, max_tokens=most, **settings)
        )
        known = self.model.verbatim
        if known is not None and (place := known.first_of(tokens)) is not None:
            self.cut += 1
            tokens = tokens[:place]
        self.completion_tokens += len(tokens)
        return await self.worker.do(lambda run: run.predictor.decode(tokens))

    def keep(self, **content: Any) -> None:
        """Notes what was asked or answered, if the operator asked for it to be in the audit log."""
        if self.server.settings.audit_content:
            self.content |= content

    def as_entry(self) -> dict[str, Any]:
        """As it stands in the audit log."""
        entry = {
            "event": "request",
            "who": self.key.name,
            "key": self.key.id,
            "model": self.model.name,
            "route": self.route,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "decision": self.decision,
        }
        if self.cut:
            entry["verbatim"] = self.cut
        if self.guarded:
            entry["guard"] = dict(self.guarded)
        return entry | ({"content": self.content} if self.content else {})

    async def take(self, texts: Sequence[str]) -> list[str]:
        """Inputs as the guard lets them to the model.

        Raises:
            ServeError: a rule refuses one.
        """
        guard = self.server.guard
        taken = await asyncio.to_thread(lambda: [guard.take(text, self.guarded) for text in texts])
        await self.judge("input", "\n".join(taken))
        return taken

    async def judge(self, side: str, text: str) -> None:
        """Asks the guard's classifier, if there is one.

        Raises:
            ServeError: it refuses the text.
        """
        judge = self.server.guard.rules.judge
        if judge is None:
            return
        async with self.server.shelf.worker(self.server.shelf.find(judge.model)) as worker:
            parts = await worker.do(partial(_seen_whole, text))
            for start in range(0, len(parts), AT_ONCE):
                for said in await worker.do(partial(_labels, parts[start : start + AT_ONCE])):
                    if said.get(judge.label, 0.0) >= judge.threshold:
                        self.guarded[f"{side}.judged"] += 1
                        raise refused(f"{side}.judged")

    async def give(self, text: str) -> str:
        """A whole answer as the guard lets it out.

        Raises:
            ServeError: a rule refuses it.
        """
        held = self.server.guard.answer(self.guarded)
        given = held.add(text, last=True)
        if held.cut:
            raise refused("output")
        await self.judge("output", given)
        return given

    def settle(self) -> None:
        """Gives back what was not needed, and writes the account."""
        used = self.prompt_tokens + self.completion_tokens
        self.server.tokens.give_back(self.key, max(0, self._reserved - used))
        self.server.note(
            self, time.monotonic() - self.began, None if self._first is None else self._first - self.began
        )


def _seen_whole(text: str, run: LoadedRun) -> list[str]:
    """A text in parts that a model sees whole; what stands where two meet is in both."""
    if len(run.encode(text)) <= run.context:
        return [text]
    middle, more = len(text) // 2, min(OVERLAP, len(text) // 8)
    return [
        part for half in (text[: middle + more], text[middle - more :]) for part in _seen_whole(half, run)
    ]


def _labels(texts: Sequence[str], run: LoadedRun) -> list[dict[str, float]]:
    return list(run.classify(texts))


def _joined(pieces: Sequence[Any]) -> Any:
    """Pieces of one text that follow each other, as one."""
    if len(pieces) == 1:
        return pieces[0]
    tokens = [token for piece in pieces for token in piece.tokens]
    return Piece("".join(piece.text for piece in pieces), tokens, pieces[-1].finish)


@asynccontextmanager
async def visit(server: Server, request: Request, name: str) -> AsyncIterator[Visit]:
    """Lets a request to a model: its model is loaded as long as this lasts, and all is accounted for at the end.

    Args:
        server: which is asked.
        request: with its key in `state.key`.
        name: of the model.

    Raises:
        ServeError: there is no such model for the key.
    """
    key: Key = request.state.key
    model = server.shelf.find(name)
    if not key.may_ask(name):
        raise no_model(name)
    server.audit.check()
    here = Visit(server, key, model, request.scope["route"].path)
    request.state.guarded = here.guarded
    try:
        async with server.shelf.worker(model) as here.worker:
            yield here
    except ShuyuanError as error:
        here.decision = error.code
        raise
    except (asyncio.CancelledError, GeneratorExit):
        here.decision = "gone"
        raise
    finally:
        here.settle()
    await server.audit.settled()  # an answer is given when its line is on disk; a streamed one before


def continuing(loaded: LoadedRun) -> LoadedRun:
    """A run, if its model continues text.

    Raises:
        RunError: it does not.
    """
    if loaded.task.output != "tokens":
        raise loaded.other_task("text")
    return loaded


def check_length(characters: int, context: int) -> None:
    """Refuses what is too long before it is cut into tokens, which takes time.

    Args:
        characters: of the text.
        context: tokens that the model sees at once.

    Raises:
        RunError: it is.
    """
    if characters > LONGEST_TOKEN * context:
        raise too_long(context)


def too_long(context: int) -> RunError:
    """The refusal of a text that the model cannot see at once."""
    return RunError(
        "serve.too-long",
        f"The model sees {context} tokens at once, and this is longer.",
        mend="Shorten it.",
    )


def seeds(asked: int | None, count: int) -> list[int]:
    """A seed for each answer; without one that was asked for, chance decides.

    Args:
        asked: of the request.
        count: answers.

    Returns:
        One after another, from 0 to 2**63 - 1.
    """
    first = secrets.randbits(63) if asked is None else asked
    return [(first + number) % 2**63 for number in range(count)]


def refuse_too_many(count: int, most: int) -> None:
    """Refuses more answers than one request may have.

    Raises:
        ServeError: it asks for more.
    """
    if count > most:
        raise ServeError(
            "serve.too-many-answers",
            f"{count} answers are asked for, and one request has {most} at most.",
            where="n",
            mend="Ask in several requests.",
        )
