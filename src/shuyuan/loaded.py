"""A trained run that answers: text goes on, is translated, summarized, asked, talked with; records get their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import data, hardware
from .errors import RunError, ShuyuanError
from .inference import Engine, Labeller, Predictor, Spanner
from .inference.spans import LONGEST, found_in
from .models import load_writer
from .pipeline import NOT_SEALED, look, manifest_of
from .progress import Progress
from .retrieval import Span
from .runs import ORIGINAL, no_variant, not_trained, variant_folder, variants_in
from .tasks import Answer, Chat, Mixed, Prompted, QuestionAnswering, Summarization, Translation, under

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .retrieval import Reader

Asked = TypeVar("Asked", bound=Prompted)


class LoadedRun:
    """A trained run, ready to answer.

    Args:
        path: the run folder.
        key: where the vault's key is, instead of where the recipe says.
        progress: is told when a text is cut to the model's context.
        variant: which of the run's variants answers. Default: the original, with nothing done to it.

    Raises:
        RunError: there is no model yet, or no such variant.

    Example:
        >>> shuyuan.load("runs/demo").generate("def main(")  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | Path,
        key: str | None = None,
        progress: Progress | None = None,
        variant: str = ORIGINAL,
    ) -> None:
        with look(path, key) as job:
            there = variants_in(job.store.names())
            if not there:
                raise not_trained(job.run.path)
            if variant not in there:
                raise no_variant(variant, there, job.run.path)
            if progress is not None and not job.store.sealed:
                progress.say("vault.open", NOT_SEALED)
            self.recipe = job.recipe
            self._image = manifest_of(job).image
            self._precision = hardware.choose_precision(job.recipe.train.precision, hardware.detect())
            self._model: Any = load_writer(job.store, variant_folder(variant), self._precision, progress)
            self._tokenizer = None if self._image else data.load_tokenizer(job.store)
            self.task = data.load_task(job.recipe, job.store)
            self._progress = progress

    @cached_property
    def engine(self) -> Engine:
        """The engine that continues texts; it belongs to one thread.

        Raises:
            ShuyuanError: the model continues no text.
        """
        if self._tokenizer is None:
            raise ShuyuanError(
                "inference.no-text",
                "The model reads images, and continues no text.",
                mend="Use `shuyuan classify` with an image.",
            )
        return Engine(self._model, self._tokenizer, progress=self._progress)

    def stream(self, prompt: str, **settings: Any) -> Iterator[str]:
        """The continuation, piece by piece.

        Args:
            prompt: the text to continue.
            settings: as of `inference.Engine.submit`: max_tokens (default 200), temperature, top_k, top_p, seed (0), stop and others.

        Returns:
            Pieces of whole characters, as they are written.
        """
        return self.engine.generate(prompt, **settings)

    def generate(self, prompt: str, **settings: Any) -> str:
        """The continuation as one string; the same seed gives the same text.

        Args:
            prompt: the text to continue.
            settings: as of `stream`.

        Returns:
            What follows the prompt, without it.
        """
        return "".join(self.stream(prompt, **settings))

    def write(self, title: str, **settings: Any) -> str:
        """A text to a title; settings as in `inference.Engine.generate`.

        Args:
            title: of the text.
            settings: as of `stream`.

        Raises:
            RunError: the run's records have no titles.
        """
        return self.generate(self.under(title), **settings)

    def under(self, title: str) -> str:
        """What the run's texts with that title begin with: the prompt for the text to it.

        Args:
            title: of a text.

        Raises:
            RunError: the run's records have no titles.
        """
        if self.recipe.data.title is None:
            raise RunError(
                "run.no-titles",
                "The run learned texts without titles.",
                where="data.title",
                mend="Train one with the column of the titles as data.title; or give the beginning of a text.",
            )
        return under(title)

    def generate_all(self, prompts: Sequence[str], **settings: Any) -> list[str]:
        """The continuation of each text; the n-th, counted from 0, has the seed `seed` + n.

        Args:
            prompts: texts to continue; as many at once as fit the engine.
            settings: as of `stream`.

        Returns:
            What follows each prompt, in their order.
        """
        progress = self._progress or Progress()
        with progress.stage("generate", len(prompts), "texts") as stage:
            return self.engine.generate_all(prompts, done=lambda _: stage.advance(), **settings)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text to be continued, the end token of what came before first.

        Args:
            text: to be continued.
        """
        assert self._tokenizer is not None
        return [self._tokenizer.end_id, *self._tokenizer.encode(text)]

    def forget(self) -> None:
        """Remembers nothing of texts beyond their own time, but for the tenants of the engine; see `data.Tokenizer.forget`."""
        if self._tokenizer is not None:
            self._tokenizer.forget()

    @property
    def reads_images(self) -> bool:
        """Whether the model reads images, and no text."""
        return self._image is not None

    @property
    def context(self) -> int:
        """Tokens that the model sees at once."""
        return int(self._model.context)

    @property
    def entries(self) -> int:
        """Entries of the vocabulary."""
        return 0 if self._tokenizer is None else self._tokenizer.vocab_size

    @cached_property
    def predictor(self) -> Predictor:
        """What lays out the prompts of the run's task.

        Raises:
            RunError: the task has no prompts.
        """
        if not isinstance(self.task, Prompted) or self.task.output != "tokens":
            raise self.other_task("prompts")
        assert self._tokenizer is not None
        return Predictor(self._model, self._tokenizer, self.task, self._progress)

    def part(self, kind: type[Asked]) -> Asked:
        """The run's task, or that part of it, which must be of that kind.

        Args:
            kind: a class of task, such as `Translation`.

        Raises:
            RunError: it is for something else.
        """
        task = self.task.part(kind.name) if isinstance(self.task, Mixed) else self.task
        if isinstance(task, kind):
            return task
        raise self.other_task(kind.name)

    def other_task(self, wanted: str) -> RunError:
        """The refusal of what the run was not trained for.

        Args:
            wanted: the name of the task that was asked for.
        """
        return RunError(
            "run.other-task",
            f"The run is for {self.recipe.task}, not for {wanted}.",
            where=f"task {self.recipe.task}",
            mend=f'Use `shuyuan {self.task.command[0]}`, or train with task = "{wanted}".',
        )

    def translate(self, text: str, to: str, **settings: Any) -> str:
        """A text in the other language; `settings` as of `translations`.

        Args:
            text: in the other of the run's two languages; of any length.
            to: the language wanted, such as "zh".
            settings: as of `translations`.
        """
        return next(self.translations([text], to, **settings))

    def translations(
        self,
        texts: Sequence[str],
        to: str,
        *,
        beams: int = 4,
        length_penalty: float = 1.0,
        max_tokens: int = 256,
    ) -> Iterator[str]:
        """The translation of each text; a long one is translated sentence by sentence.

        Args:
            texts: in the other of the run's two languages.
            to: the language wanted, such as "zh".
            beams: texts that are followed at once, at least 1; one beam takes the likeliest token always.
            length_penalty: 0 prefers short texts, as probability does; 1 compares the mean over tokens; above 1 longer ones.
            max_tokens: of a sentence's translation.

        Raises:
            RunError: the run is for another task.
            ShuyuanError: it knows another language.
        """
        asking = self.part(Translation).asking
        return self.predictor.results(
            [partial(asking, text, to=to) for text in texts],
            beams=beams, length_penalty=length_penalty, max_tokens=max_tokens,
        )  # fmt: skip

    def summarize(self, text: str, **settings: Any) -> str:
        """What matters of a text; `settings` as of `summaries`.

        Args:
            text: of any length.
            settings: as of `summaries`.
        """
        return next(self.summaries([text], **settings))

    def summaries(
        self, texts: Sequence[str], *, beams: int = 1, length_penalty: float = 1.0, max_tokens: int = 200
    ) -> Iterator[str]:
        """The summary of each text; of a long one its parts are summarized first.

        Args:
            texts: of any length.
            beams, length_penalty: as of `translations`.
            max_tokens: of a summary.

        Raises:
            RunError: the run is for another task.
        """
        asking = self.part(Summarization).asking
        return self.predictor.results(
            [partial(asking, text) for text in texts],
            beams=beams, length_penalty=length_penalty, max_tokens=max_tokens,
        )  # fmt: skip

    def answer(self, question: str, context: str | None = None, *, max_tokens: int = 100) -> Answer:
        """The answer to a question from a text, with its place in it; or that it is not there.

        Args:
            question: the question.
            context: a text of any length; None: the model answers by what it learned.
            max_tokens: of the answer.

        Returns:
            The answer with `text`, and `start` in the context; None where it stands in no text.

        Raises:
            RunError: the run is for another task, or its model looks into a text and none is given.
        """
        return next(self.answers([question], context, max_tokens=max_tokens))

    def answers(
        self, questions: Sequence[str], context: str | None = None, *, max_tokens: int = 100
    ) -> Iterator[Answer]:
        """The answer to each question, all from one text.

        Args:
            questions: any number.
            context, max_tokens: as of `answer`.

        Raises:
            RunError: the run is for another task, or its model looks into a text and none is given.
        """
        task = self.part(QuestionAnswering)
        if task.output == "spans":
            return self._pointed(task, questions, context, max_tokens)
        askings = [partial(task.asking, question, context=context) for question in questions]
        return self.predictor.results(askings, max_tokens=max_tokens)

    def _pointed(
        self, task: QuestionAnswering, questions: Sequence[str], context: str | None, max_tokens: int
    ) -> Iterator[Answer]:
        if context is None:
            raise RunError(
                "run.no-context",
                "The model points to the answer in a text, and none is given.",
                where="--context",
                mend="Give the text that may hold the answer with --context FILE.",
            )
        longest = min(max_tokens, LONGEST)
        found = self._spanner.find([(question, context) for question in questions], longest=longest)
        return (
            task.pointed(question, context, found_in(places))
            for question, places in zip(questions, found, strict=True)
        )

    @cached_property
    def _spanner(self) -> Spanner:
        assert self._tokenizer is not None  # a model that points reads text
        return Spanner(self._model, self._tokenizer, self._precision)

    def reader(self, *, max_tokens: int = 100) -> Reader:
        """The model as a reader of an index's passages, for `retrieval.answer`: of its answers, the likeliest of a model that points
        to them, else the first that stands in a passage.

        Args:
            max_tokens: of an answer.
        """

        def read(question: str, contexts: Sequence[str]) -> Span | None:
            for number, context in enumerate(contexts):
                found = self.answer(question, context, max_tokens=max_tokens)
                if found.start is not None:
                    return Span(number, found.start, found.start + len(found.text), 1.0)
            return None

        def point(question: str, contexts: Sequence[str]) -> Span | None:
            longest = min(max_tokens, LONGEST)
            found = self._spanner.find([(question, context) for context in contexts], longest=longest)
            spans = [
                Span(number, start, stop, score)
                for number, places in enumerate(found)
                for score, start, stop in places
                if score > 0
            ]
            return max(spans, key=lambda span: span.score, default=None)

        return point if self.part(QuestionAnswering).output == "spans" else read

    def reply(
        self,
        messages: Sequence[dict[str, str]],
        *,
        max_tokens: int = 256,
        temperature: float = 0.8,
        **settings: Any,
    ) -> Iterator[str]:
        """The next reply of a chat, piece by piece.

        Args:
            messages: [{"role": "user", "content": …}], the last of them the user's; where they become too long for the model, the
                oldest turns are left out, never a system message.
            max_tokens: of the reply.
            temperature, settings: as of `inference.Engine.generate`.

        Raises:
            DataError: the messages are not in order.
        """
        prompt = self.part(Chat).prompt(messages)
        return self.predictor.stream(prompt, max_tokens=max_tokens, temperature=temperature, **settings)

    def chat(self, messages: Sequence[dict[str, str]], **settings: Any) -> str:
        """The next reply of a chat as one string.

        Args:
            messages, settings: as of `reply`.
        """
        return self.part(Chat).parse("".join(self.reply(messages, **settings)))

    def replies(
        self, chats: Sequence[Sequence[dict[str, str]]], *, max_tokens: int = 256, **settings: Any
    ) -> list[str]:
        """The next reply of each chat; many are computed at once, and the n-th, counted from 0, has the seed `seed` + n.

        Args:
            chats: of each its messages, as of `reply`.
            max_tokens: of a reply.
            settings: as of `reply`.
        """
        prompts = [self.part(Chat).prompt(messages) for messages in chats]
        progress = self._progress or Progress()
        with progress.stage("reply", len(prompts), "chats") as stage:
            return self.predictor.answers(
                prompts,
                max_tokens=max_tokens,
                done=lambda _: stage.advance(),
                **{"temperature": 0.8, **settings},
            )

    @property
    def multi_label(self) -> bool:
        """Whether a record may have any number of labels."""
        found: bool = self._model.config.multi_label
        return found

    def classify(self, records: Sequence[str | Path | NDArray[Any]]) -> Iterator[dict[str, float]]:
        """For each record the probability of every label, the likeliest first; where a record may have any number of labels, each is
        told by itself, and those over a half are its labels (`multi_label`).

        Args:
            records: texts; for a model that reads images, their paths, or arrays (H, W) or (H, W, 1 or 3) of uint8.

        Raises:
            DataError: an image cannot be read.
        """
        labeller = Labeller(self._model, self._precision)
        if self._image is not None:
            return labeller.label_images(data.read_image(record, self._image) for record in records)
        assert self._tokenizer is not None
        return labeller.label([str(record) for record in records], self._tokenizer)
