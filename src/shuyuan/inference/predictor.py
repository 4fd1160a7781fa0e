"""Asks a model what a task asks: pieces of prompts in, answers out. It knows no task but by its prompts and how answers end."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from ..data import Tokenizer, laid_out, last_of
from ..errors import ShuyuanError
from ..models import AnyNetwork, CompiledModel
from ..progress import Progress
from ..tasks import Example, Piece
from ..tasks.prompted import Asking, Fits, Prompt, Prompted, Result, together
from .beam import searching, to_the_end
from .engine import Engine
from .stream import UNFINISHED

AT_ONCE = 32  # texts whose prompts are computed together


class Predictor:
    """A model that was trained for a task with prompts.

    Args:
        model: the network.
        tokenizer: its tokenizer.
        task: as the run fixes it.
        progress: shows the prompts done.
    """

    def __init__(
        self,
        model: AnyNetwork | CompiledModel,
        tokenizer: Tokenizer,
        task: Prompted,
        progress: Progress | None = None,
    ) -> None:
        self.engine = Engine(model, tokenizer, progress=progress)
        self._model = model
        self._progress = progress or Progress()
        self.task = task
        self.context = model.context
        self._tokenizer = tokenizer
        self.end_id = last_of(task.ending, tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text.

        Args:
            text: any text.
        """
        return self._tokenizer.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of an answer, less a character that is unfinished.

        Args:
            tokens: ids of an answer, without its end token.
        """
        return self._tokenizer.decode(list(tokens)).rstrip(UNFINISHED)

    def fits(self, prompt: Prompt, max_tokens: int) -> bool:
        """Whether a prompt leaves room for an answer without being shortened.

        Args:
            prompt: pieces of text, as a task lays them out.
            max_tokens: of the answer.
        """
        whole = laid_out([Example(tuple(prompt))], self._tokenizer, 2**62)[0]
        return whole is not None and len(whole.ids) <= self.room(max_tokens)

    def sees(self, prompt: Prompt | Sequence[int]) -> bool:
        """Whether the model can be asked this at all, shortened or not.

        Args:
            prompt: pieces of text, or token ids.
        """
        try:
            return bool(self._ids(prompt, self.context))
        except ShuyuanError:
            return False

    def room(self, max_tokens: int) -> int:
        """Tokens that a prompt may have: an answer gets half of the context at most.

        Args:
            max_tokens: of the answer.
        """
        return self.context - min(max_tokens, self.context // 2)

    def tokens(self, prompt: Prompt, max_tokens: int) -> list[int]:
        """The tokens of a prompt, shortened as in training where it is too long.

        Args:
            prompt: pieces of text, as a task lays them out.
            max_tokens: of the answer.

        Raises:
            ShuyuanError: what may not be shortened is too long.
        """
        rows = (
            laid_out([Example(tuple(prompt))], self._tokenizer, most)[0]
            for most in (self.room(max_tokens), self.context - 1)  # what cannot give way leaves less room
        )
        laid = next((row for row in rows if row is not None), None)
        if laid is None:
            raise ShuyuanError(
                "inference.too-long",
                f"The model sees {self.context} tokens at once, and what it is asked is longer.",
                mend="Shorten it, or train with a larger `model.context`.",
            )
        return laid.ids

    def best(self, prompt: Prompt, *, max_tokens: int, beams: int, length_penalty: float = 1.0) -> str:
        """The best answer that beam search finds; settings as of `beam.searching`.

        Args:
            prompt: pieces of text, as a task lays them out.
            max_tokens: of the answer.
            beams, length_penalty: as of `beam.searching`. Default of the penalty: 1, the mean over tokens.

        Raises:
            ShuyuanError: what may not be shortened of the prompt is longer than the model sees.
        """
        ids = self.tokens(prompt, max_tokens)
        search = self.searching(ids, max_tokens=max_tokens, beams=beams, length_penalty=length_penalty)
        return self.task.parse(self.decode(to_the_end(search)))

    def searching(self, ids: Sequence[int], **settings: Any) -> Generator[None, None, list[int]]:
        """The tokens that beam search puts behind those of a prompt, one more at each step; settings as of `beam.searching`.

        Args:
            ids: token ids of a prompt.
            settings: beams, length_penalty and max_tokens, as of `beam.searching`.
        """
        ends = {self._tokenizer.end_id, self.end_id}
        return searching(self._model, ids, ends=ends, entries=self._tokenizer.vocab_size, **settings)

    def results(
        self,
        askings: Sequence[Callable[[Fits], Asking[Result]]],
        *,
        max_tokens: int,
        beams: int = 1,
        length_penalty: float = 1.0,
        **sampling: Any,
    ) -> Iterator[Result]:
        """What comes of each input, in order; many are computed at once.

        Args:
            askings: one an input, as tasks have them: what they are to be told is which prompts fit.
            max_tokens: of an answer.
            beams, length_penalty: as of `beam.searching`; one beam is no search.
            sampling: temperature, top_k, top_p and seed, as of `answers`, without a search.
        """

        def answers(prompts: list[Prompt]) -> list[str]:
            if beams == 1:
                return self.answers(prompts, max_tokens=max_tokens, **sampling)
            return [
                self.best(prompt, max_tokens=max_tokens, beams=beams, length_penalty=length_penalty)
                for prompt in prompts
            ]

        def fits(prompt: Prompt) -> bool:
            return self.fits(prompt, max_tokens)

        with self._progress.stage("answer", len(askings), "texts") as stage:
            for start in range(0, len(askings), AT_ONCE):
                part = [asking(fits) for asking in askings[start : start + AT_ONCE]]
                for result in together(part, answers):
                    stage.advance()
                    yield result

    def stream(self, prompt: Prompt, *, max_tokens: int, **sampling: Any) -> Iterator[str]:
        """The answer, piece by piece; settings as of `Engine.generate`.

        Args:
            prompt: pieces of text, as a task lays them out.
            max_tokens: of the answer.
            sampling: temperature, top_k, top_p and seed, as of `Engine.generate`.

        Raises:
            ShuyuanError: what may not be shortened of the prompt is longer than the model sees, or a setting makes no sense.
        """
        ids = self.tokens(prompt, max_tokens)
        return self.engine.generate(ids, max_tokens=max_tokens, end_id=self.end_id, **sampling)

    def answers(
        self,
        prompts: Sequence[Prompt | Sequence[int]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        done: Callable[[int], None] = lambda _: None,
        **sampling: Any,
    ) -> list[str]:
        """The answers to many prompts, of which many are computed at once.

        Args:
            prompts: pieces, or token ids that were laid out already.
            max_tokens: of an answer.
            temperature: 0: the likeliest token always.
            done: told of each answer that is there, by its number.
            sampling: as of `Engine.generate`.
        """
        ids = [self._ids(prompt, max_tokens) for prompt in prompts]
        texts = self.engine.generate_all(
            ids, max_tokens=max_tokens, temperature=temperature, end_id=self.end_id, done=done, **sampling
        )
        return [self.task.parse(text) for text in texts]

    def _ids(self, prompt: Prompt | Sequence[int], max_tokens: int) -> Sequence[int]:
        """Token ids as they are; of pieces theirs."""
        pieces = [piece for piece in prompt if isinstance(piece, Piece)]
        ids = [token for token in prompt if isinstance(token, int)]
        return self.tokens(tuple(pieces), max_tokens) if pieces else ids
