"""/v1/translate, /v1/summarize and /v1/classify: what the verbs of the command do."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, Request

from ..data.pixels import decoded
from ..errors import DataError, RunError, ServeError
from ..tasks import Summarization, Translation
from .completions import ERRORS
from .door import Guarded
from .schemas import (
    Classified,
    ClassifyRequest,
    Labels,
    Summaries,
    SummarizeRequest,
    Summary,
    TranslateRequest,
    Translations,
)
from .schemas import Translation as Translated
from .visit import Visit, continuing, visit
from .worker import whole

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
    texts = texts_of(asked.text)
    async with visit(request.app.state.server, request, asked.model) as here:
        here.keep(asked=asked.model_dump(exclude_unset=True))
        told = await _told(
            here,
            asked,
            texts,
            lambda text: lambda run, fits: run.part(Translation).asking(text, fits, asked.to),
        )
        pairs = [Translated(text=text, translation=other) for text, other in zip(texts, told, strict=True)]
        return Translations(to=asked.to, translations=pairs, usage=here.usage)


@router.post("/v1/summarize", responses=ERRORS)
async def summarize(asked: SummarizeRequest, request: Request) -> Summaries:
    """What matters of texts."""
    texts = texts_of(asked.text)
    async with visit(request.app.state.server, request, asked.model) as here:
        here.keep(asked=asked.model_dump(exclude_unset=True))
        told = await _told(
            here, asked, texts, lambda text: lambda run, fits: run.part(Summarization).asking(text, fits)
        )
        pairs = [Summary(text=text, summary=other) for text, other in zip(texts, told, strict=True)]
        return Summaries(summaries=pairs, usage=here.usage)


async def _told(
    here: Visit,
    asked: TranslateRequest | SummarizeRequest,
    texts: Sequence[str],
    asking: Callable[[str], Callable[..., Any]],
) -> list[str]:
    """What comes of each text, as the guard lets it out.

    Args:
        here: the visit.
        asked: how many beams and tokens.
        texts: as they were sent.
        asking: of a text, what a run's task asks the model.
    """
    taken = await here.take(texts)

    search = {"beams": asked.beams, "length_penalty": asked.length_penalty} if asked.beams > 1 else None

    async def one(text: str) -> Any:
        return await asked_of(here, asking(text), asked.max_tokens, search)

    return [await here.give(each) for each in await each_of(here, taken, one)]


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
    records = texts_of(asked.text) if asked.text is not None else _list(asked.image)
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


async def asked_of(
    here: Visit, make: Callable[[LoadedRun, Any], Any], most: int, search: dict[str, Any] | None = None
) -> Any:
    """What comes of one input, whose prompts are computed beside those of others.

    Args:
        here: the visit.
        make: begins the task's questions to the model.
        most: tokens of an answer.
        search: beams and length penalty of beam search; None: the likeliest token always.
    """

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
            if search is None:
                settings = {"max_tokens": most, "temperature": 0.0, "end_id": end_id}
                (text,), _ = await whole(here.texts([(ids, settings)]), 1)
            else:
                text = await here.search(ids, most, search)
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


async def each_of(here: Visit, inputs: Sequence[T], one: Callable[[T], Awaitable[R]]) -> list[R]:
    """The results of some inputs, as many at once as the key has places.

    Args:
        here: the request at its model.
        inputs: any number.
        one: what an input comes to.

    Returns:
        In the order of the inputs. Where one fails, the others end too.
    """
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


def texts_of(given: str | list[str] | None) -> list[str]:
    """The texts of a request.

    Args:
        given: one or several.

    Raises:
        ServeError: they have more than `CHARACTERS` characters together.
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
