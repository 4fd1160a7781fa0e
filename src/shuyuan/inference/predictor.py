"""Asks a model what a task asks: pieces of prompts in, answers out. It knows no task but by its prompts and how answers end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..data import Tokenizer, laid_out
from ..errors import ShuyuanError
from ..models import AnyNetwork
from ..progress import Progress
from ..tasks import Example, Piece
from ..tasks.prompted import Prompted
from .engine import Engine

Prompt = Sequence[Piece]


class Predictor:
    """A model that was trained for a task with prompts.

    Args:
        model: the network.
        tokenizer: its tokenizer.
        task: as the run fixes it.
        progress: shows the prompts done.
    """

    def __init__(
        self, model: AnyNetwork, tokenizer: Tokenizer, task: Prompted, progress: Progress | None = None
    ) -> None:
        self.engine = Engine(model, tokenizer, progress=progress)
        self.task = task
        self.context = model.context
        self._tokenizer = tokenizer
        (ending,) = laid_out([Example(task.ending)], tokenizer, model.context)
        assert ending is not None
        self.end_id = ending.ids[-1]

    def fits(self, prompt: Prompt, max_tokens: int) -> bool:
        """Whether a prompt leaves room for an answer without being shortened."""
        whole = laid_out([Example(tuple(prompt))], self._tokenizer, 2**62)[0]
        return whole is not None and len(whole.ids) <= self.room(max_tokens)

    def room(self, max_tokens: int) -> int:
        """Tokens that a prompt may have: an answer gets half of the context at most."""
        return self.context - min(max_tokens, self.context // 2)

    def tokens(self, prompt: Prompt, max_tokens: int) -> list[int]:
        """The tokens of a prompt, shortened as in training where it is too long.

        Raises:
            ShuyuanError: what may not be shortened is too long.
        """
        laid = laid_out([Example(tuple(prompt))], self._tokenizer, self.room(max_tokens))[0]
        if laid is None:
            raise ShuyuanError(
                "inference.too-long",
                f"The model sees {self.context} tokens at once, and what it is asked is longer.",
                mend="Shorten it, or train with a larger `model.context`.",
            )
        return laid.ids

    def stream(self, prompt: Prompt, *, max_tokens: int, **sampling: Any) -> Iterator[str]:
        """The answer, piece by piece; settings as of `Engine.generate`."""
        ids = self.tokens(prompt, max_tokens)
        return self.engine.generate(ids, max_tokens=max_tokens, end_id=self.end_id, **sampling)

    def answers(
        self,
        prompts: Sequence[Prompt | list[int]],
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
        ids = [
            list(prompt) if prompt and isinstance(prompt[0], int) else self.tokens(prompt, max_tokens)  # type: ignore[arg-type]
            for prompt in prompts
        ]
        texts = self.engine.generate_all(
            ids, max_tokens=max_tokens, temperature=temperature, end_id=self.end_id, done=done, **sampling
        )
        return [self.task.parse(text) for text in texts]
