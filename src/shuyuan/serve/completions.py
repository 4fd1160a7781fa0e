"""/v1/chat/completions and /v1/completions, as OpenAI's API has them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from ..errors import ServeError
from ..tasks import Chat
from .door import Guarded
from .forms import ChatForm, Taken, TextForm
from .problems import Problems
from .schemas import (
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionRequest,
    Sampled,
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
    return await _answer(asked, request, _chat_plan, most, logprobs, ChatForm(asked))


@router.post(
    "/v1/completions",
    response_model=Completion,
    responses={**ERRORS, 200: {"content": {EVENTS: {"schema": {"type": "string"}}}}},
)
async def completions(asked: CompletionRequest, request: Request) -> Any:
    """Texts, continued."""
    most = asked.max_tokens or DEFAULT_TOKENS
    return await _answer(asked, request, _text_plan, most, asked.logprobs, TextForm(asked))


async def _answer(
    asked: ChatRequest | CompletionRequest,
    request: Request,
    plan: Callable[[Any, Sequence[str], int, LoadedRun], Plan],
    most: int | None,
    logprobs: int | None,
    form: ChatForm | TextForm,
) -> Any:
    server = request.app.state.server
    limits = server.settings.limits
    most = min(most or limits.longest_output, limits.longest_output)
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(visit(server, request, asked.model))
        here.keep(asked=asked.model_dump(exclude_unset=True))
        _refuse_unguarded(here, asked, logprobs)
        given = asked.texts
        _check(given, plan is _chat_plan, here.worker.loaded)  # before anything looks at what is too long
        texts = await here.take(given) if given else []
        planned = await here.worker.do(partial(plan, asked, texts, most))
        refuse_too_many(len(planned.prompts) * (asked.n or 1), limits.choices)
        asks = _asks(asked, planned, most, logprobs)
        here.reserve(sum(len(prompt) + settings["max_tokens"] for prompt, settings in asks))
        here.prompt_tokens = sum(map(len, planned.prompts))
        pieces = await stack.enter_async_context(aclosing(_guarded(here, asks)))
        if not asked.stream:
            return await _whole(form, here, pieces, len(asks))
        first = await anext(pieces)  # what is wrong shows before the response begins
        events = _events(form, here, pieces, first, asked)
        return Events(events, stack.pop_all(), here)


def _refuse_unguarded(here: Visit, asked: ChatRequest | CompletionRequest, logprobs: int | None) -> None:
    """What a guard cannot look at does not pass it."""
    if logprobs is not None and here.server.guard.guards_output:
        raise ServeError(
            "serve.no-logprobs",
            "Answers are guarded here, and their tokens are not told.",
            where="logprobs",
            mend="Leave logprobs out.",
        )
    if not asked.texts and here.server.guard.guards_input:
        raise ServeError(
            "serve.no-tokens",
            "Inputs are guarded here, and tokens are no text.",
            where="prompt",
            mend="Send text.",
        )


def _asks(
    asked: ChatRequest | CompletionRequest, planned: Plan, most: int, logprobs: int | None
) -> list[tuple[list[int], dict[str, Any]]]:
    """A prompt and its settings for each answer that is wanted."""
    each = asked.n or 1
    prompts = [prompt for prompt in planned.prompts for _ in range(each)]
    rooms = [min(most, room) for room in planned.rooms for _ in range(each)]
    common = {
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "end_id": planned.end_id,
        "stop": asked.stops,
        "logprobs": logprobs,
    }
    drawn = seeds(asked.seed, len(prompts))
    return [
        (prompt, {**common, "max_tokens": room, "seed": seed})
        for prompt, room, seed in zip(prompts, rooms, drawn, strict=True)
    ]


async def _whole(form: ChatForm | TextForm, here: Visit, pieces: AsyncIterator[Any], count: int) -> Any:
    """The response that is not streamed."""
    taken = [Taken("", []) for _ in range(count)]
    async for number, piece in pieces:
        taken[number].text += piece.text
        taken[number].tokens += piece.tokens
        taken[number].finish = piece.finish
    here.keep(answered=[each.text for each in taken])
    return form.whole(here, taken)


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
    form: ChatForm | TextForm, here: Visit, pieces: AsyncIterator[Any], first: Any, asked: Sampled
) -> AsyncGenerator[str, None]:
    """The chunks of a streamed response, as JSON."""
    for opening in form.opening():
        yield opening
    number, piece = first
    for chunk in form.chunks(number, piece):
        yield chunk
    async for number, piece in pieces:
        for chunk in form.chunks(number, piece):
            yield chunk
    if asked.tells_usage:
        yield form.last(here)
    yield "[DONE]"


def _check(texts: Sequence[str], together: bool, loaded: LoadedRun) -> None:
    lengths = list(map(len, texts))
    for length in [sum(lengths)] if together else lengths:
        check_length(length, continuing(loaded).context)


def _chat_plan(asked: ChatRequest, texts: Sequence[str], most: int, loaded: LoadedRun) -> Plan:
    chat = continuing(loaded).part(Chat)
    roles = {"developer": "system"}
    messages = [
        {"role": roles.get(message.role, message.role), "content": text}
        for message, text in zip(asked.messages, texts, strict=True)
    ]
    ids = loaded.predictor.tokens(chat.prompt(messages), most)
    return Plan([ids], [max(1, loaded.context - len(ids) + 1)], loaded.predictor.end_id)


def _text_plan(asked: CompletionRequest, texts: Sequence[str], most: int, loaded: LoadedRun) -> Plan:
    prompts = [_ids(prompt, loaded) for prompt in texts or asked.rows]
    rooms = [loaded.context - len(ids) + 1 for ids in prompts]
    return Plan(prompts, rooms)


def _ids(prompt: str | list[int], loaded: LoadedRun) -> list[int]:
    if isinstance(prompt, str):
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
