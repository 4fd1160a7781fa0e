"""/v1/chat/completions and /v1/completions, as OpenAI's API has them."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from ..errors import ServeError
from ..tasks import Chat
from .door import Guarded
from .problems import Problems
from .schemas import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChatRequest,
    ChunkChoice,
    Completion,
    CompletionRequest,
    Delta,
    Reply,
    Sampled,
    TextChoice,
    TextLogprobs,
    TokenLogprob,
    TopLogprob,
)
from .sse import EVENTS, Events
from .visit import Piece, Visit, check_length, continuing, refuse_too_many, seeds, too_long, visit

if TYPE_CHECKING:
    from ..loaded import LoadedRun

DEFAULT_TOKENS = 16  # of a completion, as OpenAI has it
router = APIRouter(route_class=Guarded)
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problems} for status in (400, 401, 403, 404, 408, 413, 415, 429, 500)
}


@dataclass
class Plan:
    """What a request comes to.

    Attributes:
        prompts: token ids, one a prompt.
        rooms: tokens that each may be continued by.
        end_id: what ends an answer too.
    """

    prompts: list[list[int]]
    rooms: list[int]
    end_id: int | None = None


@dataclass
class Taken:
    """What a choice holds so far."""

    text: str
    tokens: list[Any]
    finish: Any = None


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    responses={**ERRORS, 200: {"content": {EVENTS: {"schema": {"type": "string"}}}}},
)
async def chat_completions(asked: ChatRequest, request: Request) -> Any:
    """The next reply of a chat."""
    if asked.top_logprobs and not asked.logprobs:
        raise ServeError(
            "serve.bad-request",
            "top_logprobs is given without logprobs.",
            where="top_logprobs",
            mend="Set logprobs to true.",
        )
    logprobs = (asked.top_logprobs or 0) if asked.logprobs else None
    most = asked.max_completion_tokens or asked.max_tokens
    return await _answer(asked, request, _chat_plan, most, logprobs, _ChatForm(asked))


@router.post(
    "/v1/completions",
    response_model=Completion,
    responses={**ERRORS, 200: {"content": {EVENTS: {"schema": {"type": "string"}}}}},
)
async def completions(asked: CompletionRequest, request: Request) -> Any:
    """Texts, continued."""
    most = asked.max_tokens or DEFAULT_TOKENS
    return await _answer(asked, request, _text_plan, most, asked.logprobs, _TextForm(asked))


async def _answer(
    asked: ChatRequest | CompletionRequest,
    request: Request,
    plan: Callable[[Any, Sequence[str], int, LoadedRun], Plan],
    most: int | None,
    logprobs: int | None,
    form: _ChatForm | _TextForm,
) -> Any:
    server = request.app.state.server
    limits = server.settings.limits
    most = min(most or limits.longest_output, limits.longest_output)
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(visit(server, request, asked.model))
        here.keep(asked=asked.model_dump(exclude_unset=True))
        if logprobs is not None and server.guard.guards_output:
            raise ServeError(
                "serve.no-logprobs",
                "Answers are guarded here, and their tokens are not told.",
                where="logprobs",
                mend="Leave logprobs out.",
            )
        given = asked.texts
        texts = await here.take(given) if given else []
        if not given and server.guard.guards_input:
            raise ServeError(
                "serve.no-tokens",
                "Inputs are guarded here, and tokens are no text.",
                where="prompt",
                mend="Send text.",
            )
        planned = await here.worker.do(partial(plan, asked, texts, most))
        each = asked.n or 1
        prompts = [prompt for prompt in planned.prompts for _ in range(each)]
        rooms = [min(most, room) for room in planned.rooms for _ in range(each)]
        refuse_too_many(len(prompts), limits.choices)
        here.reserve(sum(map(len, prompts)) + sum(rooms))
        here.prompt_tokens = sum(map(len, planned.prompts))
        common = {
            "temperature": 1.0 if asked.temperature is None else asked.temperature,
            "top_p": asked.top_p,
            "top_k": asked.top_k,
            "end_id": planned.end_id,
            "stop": asked.stops,
            "logprobs": logprobs,
        }
        drawn = seeds(asked.seed, len(prompts))
        asks = [
            (prompt, {**common, "max_tokens": room, "seed": seed})
            for prompt, room, seed in zip(prompts, rooms, drawn, strict=True)
        ]
        pieces = await stack.enter_async_context(aclosing(_guarded(here, asks)))
        if not asked.stream:
            taken = [Taken("", []) for _ in asks]
            async for number, piece in pieces:
                taken[number].text += piece.text
                taken[number].tokens += piece.tokens
                taken[number].finish = piece.finish
            here.keep(answered=[each.text for each in taken])
            return form.whole(here, taken)
        first = await anext(pieces)  # what is wrong shows before the response begins
        events = _events(form, here, pieces, first, asked)
        return Events(events, stack.pop_all(), here)


async def _guarded(here: Visit, asks: Sequence[Any]) -> AsyncGenerator[tuple[int, Any], None]:
    """The pieces of all answers as the guard lets them out; one that a rule ends is ended by `content_filter`."""
    guard = here.server.guard
    held = [guard.answer(here.guarded) for _ in asks]
    judged: list[list[str]] = [[] for _ in asks]
    async with aclosing(_together(here, asks)) as pieces:
        async for number, piece in pieces:
            if held[number].cut:
                continue
            text = held[number].add(piece.text, last=piece.finish is not None)
            finish = "content_filter" if held[number].cut else piece.finish
            if guard.rules.judge is not None:
                judged[number].append(text)
                if finish is None:
                    continue
                text = "".join(judged[number])
                await here.judge("output", text)
            if text or piece.tokens or finish is not None:
                yield number, Piece(text, piece.tokens, finish)
            if all(each.cut for each in held):
                return


async def _together(here: Visit, asks: Sequence[Any]) -> AsyncGenerator[tuple[int, Any], None]:
    """The pieces of all answers; as many are computed at once as the key has places, the rest after them."""
    done = 0
    while done < len(asks):
        async with here.places(len(asks) - done) as count:
            part = asks[done : done + count]
            async with aclosing(here.texts(part)) as pieces:
                async for number, _, piece in pieces:
                    yield done + number, piece
        done += count


async def _events(
    form: _ChatForm | _TextForm, here: Visit, pieces: AsyncIterator[Any], first: Any, asked: Sampled
) -> AsyncGenerator[str, None]:
    """The chunks of a streamed response, as JSON."""
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage
    for opening in form.opening():
        yield opening
    number, piece = first
    for chunk in form.chunks(number, piece):
        yield chunk
    async for number, piece in pieces:
        for chunk in form.chunks(number, piece):
            yield chunk
    if with_usage:
        yield form.last(here)
    yield "[DONE]"


def _chat_plan(asked: ChatRequest, texts: Sequence[str], most: int, loaded: LoadedRun) -> Plan:
    chat = continuing(loaded).part(Chat)
    check_length(sum(map(len, texts)), loaded.context)
    roles = {"developer": "system"}
    messages = [
        {"role": roles.get(message.role, message.role), "content": text}
        for message, text in zip(asked.messages, texts, strict=True)
    ]
    ids = loaded.predictor.tokens(chat.prompt(messages), most)
    return Plan([ids], [max(1, loaded.context - len(ids) + 1)], loaded.predictor.end_id)


def _text_plan(asked: CompletionRequest, texts: Sequence[str], most: int, loaded: LoadedRun) -> Plan:
    continuing(loaded)
    prompts = [_ids(prompt, loaded) for prompt in texts or asked.rows]
    rooms = [loaded.context - len(ids) + 1 for ids in prompts]
    return Plan(prompts, rooms)


def _ids(prompt: str | list[int], loaded: LoadedRun) -> list[int]:
    if isinstance(prompt, str):
        check_length(len(prompt), loaded.context)
        prompt = loaded.encode(prompt)
    elif not all(token < loaded.entries for token in prompt):
        raise ServeError(
            "serve.no-token",
            f"The vocabulary has {loaded.entries:,} entries, and a token lies beyond them.",
            where="prompt",
            mend="Send tokens of this model, or text.",
        )
    if len(prompt) > loaded.context:
        raise too_long(loaded.context)
    return prompt


class _ChatForm:
    """Replies as chat completions."""

    def __init__(self, asked: ChatRequest) -> None:
        self._head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": asked.model,
        }
        self._count = asked.n or 1
        self._logprobs = bool(asked.logprobs)

    def whole(self, here: Visit, taken: Sequence[Taken]) -> ChatCompletion:
        choices = [
            ChatChoice(
                index=number,
                message=Reply(content=each.text),
                logprobs=self._told(each.tokens),
                finish_reason=each.finish,
            )
            for number, each in enumerate(taken)
        ]
        return ChatCompletion(**self._head, choices=choices, usage=here.usage)

    def opening(self) -> list[str]:
        return [self._chunk(number, Delta(role="assistant", content="")) for number in range(self._count)]

    def chunks(self, number: int, piece: Any) -> list[str]:
        chunks = []
        if piece.text or (self._logprobs and piece.tokens):
            chunks.append(self._chunk(number, Delta(content=piece.text), self._told(piece.tokens)))
        if piece.finish is not None:
            chunks.append(self._chunk(number, Delta(), finish=piece.finish))
        return chunks

    def last(self, here: Visit) -> str:
        return ChatChunk(**self._head, choices=[], usage=here.usage).model_dump_json()

    def _chunk(
        self, number: int, delta: Delta, logprobs: ChatLogprobs | None = None, finish: Any = None
    ) -> str:
        choice = ChunkChoice(index=number, delta=delta, logprobs=logprobs, finish_reason=finish)
        return ChatChunk(**self._head, choices=[choice]).model_dump_json()

    def _told(self, tokens: Sequence[Any]) -> ChatLogprobs | None:
        if not self._logprobs:
            return None
        told = [
            TokenLogprob(
                **_token(text, logprob), top_logprobs=[TopLogprob(**_token(*other)) for other in top]
            )
            for text, logprob, top in tokens
        ]
        return ChatLogprobs(content=told)


class _TextForm:
    """Continuations as completions."""

    def __init__(self, asked: CompletionRequest) -> None:
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": asked.model,
        }
        self._logprobs = asked.logprobs
        self._offsets: dict[int, int] = {}

    def whole(self, here: Visit, taken: Sequence[Taken]) -> Completion:
        choices = [
            TextChoice(
                index=number,
                text=each.text,
                logprobs=self._told(number, each.tokens),
                finish_reason=each.finish,
            )
            for number, each in enumerate(taken)
        ]
        return Completion(**self._head, choices=choices, usage=here.usage)

    def opening(self) -> list[str]:
        return []

    def chunks(self, number: int, piece: Any) -> list[str]:
        if not piece.text and piece.finish is None and not (piece.tokens and self._logprobs is not None):
            return []
        choice = TextChoice(
            index=number,
            text=piece.text,
            logprobs=self._told(number, piece.tokens),
            finish_reason=piece.finish,
        )
        return [Completion(**self._head, choices=[choice]).model_dump_json()]

    def last(self, here: Visit) -> str:
        return Completion(**self._head, choices=[], usage=here.usage).model_dump_json()

    def _told(self, number: int, tokens: Sequence[Any]) -> TextLogprobs | None:
        if self._logprobs is None:
            return None
        at, offsets = self._offsets.get(number, 0), []
        for text, _, _ in tokens:
            offsets.append(at)
            at += len(text)
        self._offsets[number] = at
        return TextLogprobs(
            tokens=[text for text, _, _ in tokens],
            token_logprobs=[logprob for _, logprob, _ in tokens],
            top_logprobs=[dict(top) for _, _, top in tokens] if self._logprobs else None,
            text_offset=offsets,
        )


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}
