"""/v1/translate, /v1/summarize, /v1/answer and /v1/classify: what the verbs of the command do."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, Request

from .. import retrieval
from ..data.pixels import decoded
from ..errors import DataError, RunError, ServeError
from ..tasks import QuestionAnswering, Summarization, Translation
from .completions import ERRORS
from .door import Guarded
from .indexes import TASK, LoadedIndex
from .schemas import (
    AnswerRequest,
    Answers,
    AnswerTold,
    Classified,
    ClassifyRequest,
    Labels,
    Passage,
    Summaries,
    SummarizeRequest,
    Summary,
    TranslateRequest,
    Translations,
)
from .schemas import Translation as Translated
from .shelf import no_model
from .visit import Visit, continuing, visit
from .worker import Worker, whole

if TYPE_CHECKING:
    from ..loaded import LoadedRun

T = TypeVar("T")
R = TypeVar("R")
CHARACTERS = 200_000  # of all texts of a request
AT_ONCE = 8  # records that are classified between two steps of others
router = APIRouter(route_class=Guarded)


@router.post("/v1/translate", responses=ERRORS)
async def translate(asked: TranslateRequest, request: Request) -> Translations:
    """Texts in the other language."""
    texts = _texts(asked.text)
    async with visit(request.app.state.server, request, asked.model) as here:
        here.keep(asked=asked.model_dump(exclude_unset=True))
        taken = await here.take(texts)

        async def one(text: str) -> Any:
            if asked.beams > 1:
                return await _searched(here, text, asked.max_tokens, partial(_translated, asked, text))
            return await _asked(
                here, lambda run, fits: run.part(Translation).asking(text, fits, asked.to), asked.max_tokens
            )

        told = [await here.give(each) for each in await _each(here, taken, one)]
        pairs = [Translated(text=text, translation=other) for text, other in zip(texts, told, strict=True)]
        return Translations(to=asked.to, translations=pairs, usage=here.usage)


@router.post("/v1/summarize", responses=ERRORS)
async def summarize(asked: SummarizeRequest, request: Request) -> Summaries:
    """What matters of texts."""
    texts = _texts(asked.text)
    async with visit(request.app.state.server, request, asked.model) as here:
        here.keep(asked=asked.model_dump(exclude_unset=True))
        taken = await here.take(texts)

        async def one(text: str) -> Any:
            if asked.beams > 1:
                return await _searched(here, text, asked.max_tokens, partial(_summarized, asked, text))
            return await _asked(
                here, lambda run, fits: run.part(Summarization).asking(text, fits), asked.max_tokens
            )

        told = [await here.give(each) for each in await _each(here, taken, one)]
        pairs = [Summary(text=text, summary=other) for text, other in zip(texts, told, strict=True)]
        return Summaries(summaries=pairs, usage=here.usage)


@router.post("/v1/answer", responses=ERRORS)
async def answer(asked: AnswerRequest, request: Request) -> Answers:
    """Answers to questions, from a text, from an index or by heart."""
    _texts([*_texts(asked.question), asked.context or ""])
    server = request.app.state.server
    async with visit(server, request, asked.model) as here:
        here.keep(asked=asked.model_dump(exclude_unset=True))
        questions = await here.take(_texts(asked.question))
        alone = here.model.task == TASK
        if sum((alone, asked.index is not None, asked.context is not None)) > 1:
            raise _two_contexts()
        if alone:
            told = await _each(here, questions, partial(_from_index, here, here.worker, asked))
        elif asked.index is not None:
            if not here.key.may_ask(asked.index):
                raise no_model(asked.index)
            async with server.shelf.worker(server.shelf.find(asked.index)) as books:
                told = await _each(here, questions, partial(_from_index, here, books, asked))
        else:
            told = await _from_text(here, questions, asked)
        shown = zip(_texts(asked.question), told, strict=True)
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
            found = await _asked(
                here,
                lambda run, fits: run.part(QuestionAnswering).asking(question, fits, context),
                asked.max_tokens,
            )
        text = await here.give(found.text)
        return AnswerTold(question=question, answer=text, found=found.found, start=found.start)

    return await _each(here, questions, one)


async def _from_index(here: Visit, books: Worker, asked: AnswerRequest, question: str) -> AnswerTold:
    """What an index answers; where the model is a run, it reads the passages."""
    index = await books.do(_index_of)
    passages = await asyncio.to_thread(index.search, question, asked.top)
    for passage in passages:
        here.server.guard.look(passage.text, here.guarded)
    if books is here.worker:
        told = await asyncio.to_thread(retrieval.answer, question, index, None, asked.top)
    else:
        await here.worker.do(lambda run: run.part(QuestionAnswering))  # before anything of it is read
        read = await here.worker.do(lambda run: sum(len(run.encode(passage.text)) for passage in passages))
        here.reserve(read + asked.max_tokens * asked.top)
        told = await here.worker.do(
            lambda run: retrieval.answer(question, index, run.reader(max_tokens=asked.max_tokens), asked.top)
        )
        here.prompt_tokens += read
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


@router.post("/v1/classify", responses=ERRORS)
async def classify(asked: ClassifyRequest, request: Request) -> Classified:
    """The labels of texts or images."""
    if (asked.text is None) == (asked.image is None):
        raise ServeError(
            "serve.bad-request",
            "Either text or image is given.",
            where="text",
            mend="Send one of them.",
        )
    records = _texts(asked.text) if asked.text is not None else _list(asked.image)
    async with visit(request.app.state.server, request, asked.model) as here:
        here.keep(asked=asked.model_dump(exclude_unset=True))
        if asked.text is not None:
            records = await here.take(records)
        here.reserve(len(records))
        told: list[dict[str, float]] = []
        async with here.places(1):
            for start in range(0, len(records), AT_ONCE):
                part = records[start : start + AT_ONCE]
                told += await here.worker.do(partial(_labelled, part, asked.image is not None))
        here.prompt_tokens = len(records)
        return Classified(labels=[_label(each) for each in told])


def _label(each: dict[str, float]) -> Labels:
    label, probability = next(iter(each.items()))  # the likeliest comes first
    return Labels(label=label, probability=probability, probabilities=each)


def _labelled(records: Sequence[str], images: bool, run: LoadedRun) -> list[dict[str, float]]:
    if run.task.output != "labels":
        raise run.other_task("classification")
    if images != run.reads_images:
        raise RunError(
            "serve.other-input",
            f"The model reads {'images' if run.reads_images else 'texts'}.",
            mend=f"Send them as `{'image' if run.reads_images else 'text'}`.",
        )
    return list(run.classify([_pixels(record) for record in records] if images else list(records)))


def _pixels(record: str) -> Any:
    """An image that was sent as base64. What looks like an address is no base64, and nothing is fetched."""
    skipped: Counter[str] = Counter()
    try:
        pixels = decoded(base64.b64decode(record, validate=True), skipped)
    except (binascii.Error, ValueError):
        pixels = None
    if pixels is None:
        raise DataError(
            "serve.no-image",
            f"No image can be read here ({next(iter(skipped), 'it is no base64')}).",
            mend="Send a PNG, JPEG, BMP or WebP file as base64.",
        )
    return pixels


def _translated(asked: TranslateRequest, text: str, run: LoadedRun) -> str:
    return run.translate(
        text, asked.to, beams=asked.beams, length_penalty=asked.length_penalty, max_tokens=asked.max_tokens
    )


def _summarized(asked: SummarizeRequest, text: str, run: LoadedRun) -> str:
    return run.summarize(
        text, beams=asked.beams, length_penalty=asked.length_penalty, max_tokens=asked.max_tokens
    )


async def _searched(here: Visit, text: str, most: int, work: Callable[[LoadedRun], str]) -> str:
    """What beam search finds; the model does nothing else meanwhile."""
    read = await here.worker.do(lambda run: len(continuing(run).encode(text)))
    here.reserve(read + most)
    told = await here.worker.do(work)
    here.prompt_tokens += read
    here.completion_tokens += await here.worker.do(lambda run: len(run.encode(told)) - 1)
    return told


async def _asked(here: Visit, make: Callable[[LoadedRun, Any], Any], most: int) -> Any:
    """What comes of one input, whose prompts are computed beside those of others."""

    def begun(run: LoadedRun) -> Any:
        predictor = continuing(run).predictor
        asking = make(run, lambda prompt: predictor.fits(prompt, most))
        return asking, predictor.task.parse, predictor.end_id, *_sent(asking, None, most, run)

    asking, parse, end_id, prompts, result = await here.worker.do(begun)
    while prompts is not None:
        told = []
        for ids in prompts:
            here.reserve(len(ids) + most)
            here.prompt_tokens += len(ids)
            settings = {"max_tokens": most, "temperature": 0.0, "end_id": end_id}
            (text,), _ = await whole(here.texts([(ids, settings)]), 1)
            told.append(parse(text))
        prompts, result = await here.worker.do(partial(_sent, asking, told, most))
    return result


def _sent(
    asking: Any, told: list[str] | None, most: int, run: LoadedRun
) -> tuple[list[list[int]] | None, Any]:
    """The tokens of what is asked next, or the result."""
    try:
        prompts = next(asking) if told is None else asking.send(told)
    except StopIteration as end:
        return None, end.value
    return [run.predictor.tokens(prompt, most) for prompt in prompts], None


async def _each(here: Visit, inputs: Sequence[T], one: Callable[[T], Awaitable[R]]) -> list[R]:
    """The results of some inputs, as many at once as the key has places."""
    async with here.places(len(inputs)) as count:
        turn = asyncio.Semaphore(count)

        async def waiting(each: T) -> R:
            async with turn:
                return await one(each)

        doing = [asyncio.ensure_future(waiting(each)) for each in inputs]
        try:
            return await asyncio.gather(*doing)
        finally:
            for task in doing:
                task.cancel()
            await asyncio.gather(*doing, return_exceptions=True)


def _list(given: str | list[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or [])


def _texts(given: str | list[str] | None) -> list[str]:
    """The texts of a request.

    Raises:
        ServeError: they are too long together, or one is empty.
    """
    texts = _list(given)
    if sum(map(len, texts)) > CHARACTERS:
        raise ServeError(
            "serve.too-long",
            f"The texts have more than {CHARACTERS:,} characters together.",
            status=413,
            mend="Send them in several requests.",
        )
    return texts
