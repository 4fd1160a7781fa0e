"""/v1/answer: from a text, from an index, or by heart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from .. import retrieval
from ..errors import RunError, ServeError
from ..tasks import QuestionAnswering
from .completions import ERRORS
from .door import Guarded
from .indexes import TASK, LoadedIndex
from .schemas import AnswerRequest, Answers, AnswerTold, Passage
from .shelf import no_model
from .tasks_api import asked_of, each_of, texts_of
from .visit import Visit, visit
from .worker import Worker

if TYPE_CHECKING:
    from ..loaded import LoadedRun

router = APIRouter(route_class=Guarded)


@router.post("/v1/answer", responses=ERRORS)
async def answer(asked: AnswerRequest, request: Request) -> Answers:
    """Answers to questions, from a text, from an index or by heart."""
    texts_of([*texts_of(asked.question), asked.context or ""])
    server = request.app.state.server
    async with visit(server, request, asked.model) as here:
        here.keep(asked=asked.model_dump(exclude_unset=True))
        questions = await here.take(texts_of(asked.question))
        alone = here.model.task == TASK
        if sum((alone, asked.index is not None, asked.context is not None)) > 1:
            raise _two_contexts()
        if alone:
            told = await each_of(here, questions, partial(_from_index, here, here.worker, asked))
        elif asked.index is not None:
            if not here.key.may_ask(asked.index):
                raise no_model(asked.index)
            async with server.shelf.worker(server.shelf.find(asked.index)) as books:
                told = await each_of(here, questions, partial(_from_index, here, books, asked))
        else:
            told = await _from_text(here, questions, asked)
        shown = zip(texts_of(asked.question), told, strict=True)
        answers = [each.model_copy(update={"question": question}) for question, each in shown]
        return Answers(answers=answers, usage=here.usage)


async def _from_text(here: Visit, questions: Sequence[str], asked: AnswerRequest) -> list[AnswerTold]:
    context = asked.context
    if context is not None:
        here.server.guard.look(context, here.guarded)
        (context,) = await here.take([context])
    points = await here.worker.do(lambda run: run.part(QuestionAnswering).output == "spans")

    async def one(question: str) -> AnswerTold:
        if points:
            found = await here.worker.do(
                lambda run: run.answer(question, context, max_tokens=asked.max_tokens)
            )
        else:
            found = await asked_of(here, _asking(question, context), asked.max_tokens)
        text = await here.give(found.text)
        return AnswerTold(question=question, answer=text, found=found.found, start=found.start)

    return await each_of(here, questions, one)


async def _from_index(here: Visit, books: Worker, asked: AnswerRequest, question: str) -> AnswerTold:
    """What an index answers; where the model is a run, it reads the passages."""
    index = await books.do(_index_of)
    passages = await asyncio.to_thread(index.search, question, asked.top)
    for passage in passages:
        here.server.guard.look(passage.text, here.guarded)
    span, own = None, books is here.worker
    if not own:
        span = await _read(here, question, [] if index.pairs else passages, asked)
    reader = None if own else lambda *_: span
    told = await asyncio.to_thread(retrieval.answer, question, index, reader, asked.top)
    shown = [await _passage(here, passage) for passage in told.passages]
    return AnswerTold(
        question=question,
        answer=None if told.answer is None else await here.give(told.answer),
        found=told.answer is not None,
        source=None if told.source is None else await _passage(here, told.source),
        passages=shown,
        confidence=told.confidence,
        hand_over=told.hand_over,
    )


async def _read(
    here: Visit, question: str, passages: Sequence[retrieval.Found], asked: AnswerRequest
) -> retrieval.Span | None:
    """Where a run finds the answer."""
    most, texts = asked.max_tokens, [passage.text for passage in passages]
    if await here.worker.do(lambda run: run.part(QuestionAnswering).output == "spans"):
        read = await here.worker.do(lambda run: sum(len(run.encode(text)) for text in texts))
        here.reserve(read)
        here.prompt_tokens += read
        return await here.worker.do(lambda run: run.reader(max_tokens=most)(question, texts))
    for number, text in enumerate(texts):
        found = await asked_of(here, _asking(question, text), most)
        if found.start is not None:
            return retrieval.Span(number, found.start, found.start + len(found.text), 1.0)
    return None


def _asking(question: str, context: str | None) -> Callable[[LoadedRun, Any], Any]:
    return lambda run, fits: run.part(QuestionAnswering).asking(question, fits, context)


def _index_of(loaded: Any) -> retrieval.Index:
    if not isinstance(loaded, LoadedIndex):
        raise RunError(
            "serve.no-index", "This is no index.", mend="Name one as `index`; /v1/models lists them."
        )
    return loaded.index


async def _passage(here: Visit, found: retrieval.Found) -> Passage:
    table = found.as_dict()
    given = {name: await here.give(table[name]) for name in ("text", "answer") if table.get(name) is not None}
    return Passage(**table | given)


def _two_contexts() -> ServeError:
    return ServeError(
        "serve.bad-request",
        "The answer is to come from one place alone, a context or an index.",
        where="index",
        mend="Send one of them.",
    )
