"""The engine: prompts in, text out, many sequences at once. It knows a model only as slots."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..data import Tokenizer
from ..errors import ShuyuanError
from ..models import AnyNetwork, CompiledModel, open_slots
from ..progress import Progress
from .request import Request, Said, Wanted
from .sampling import Floats, Sampling, bad_setting


class Engine:
    """Continues texts with a model; it belongs to one thread.

    Texts join and leave between two steps, and none changes what another gets. The model sees `context` tokens at once. A text
    that grows longer is cut to its last context / 2 tokens, which are read again, as often as needed; the first time, `progress`
    is told.

    Args:
        model: the network.
        tokenizer: its tokenizer.
        slots: sequences computed at once.
        progress: is told when a text is cut.

    Raises:
        ShuyuanError: the tokenizer has more entries than the model.

    Example:
        >>> for piece in Engine(model, tokenizer).generate("Once", max_tokens=50, seed=1):
        ...     sys.stdout.write(piece)
    """

    def __init__(
        self,
        model: AnyNetwork | CompiledModel,
        tokenizer: Tokenizer,
        *,
        slots: int = 16,
        progress: Progress | None = None,
    ) -> None:
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ShuyuanError(
                "inference.other-tokenizer",
                f"The tokenizer has {tokenizer.vocab_size} entries and the model {model.config.vocab_size}.",
                mend="Use the tokenizer that the model was trained with.",
            )
        self._model = model
        self._tokenizer = tokenizer
        self._progress = progress or Progress()
        self._most = slots
        self._slots: Any = None
        self._opened = (0, 0)  # slots that are there, and the tokens that each can hold
        self._waiting: deque[Request] = deque()
        self._active: dict[int, Request] = {}

    # ---- one text, or many, to their ends ----------------------------------------------------------------------------

    def generate(self, prompt: str | Sequence[int], **settings: Any) -> Iterator[str]:
        """Continues a text, piece by piece, in whole characters, until it ends.

        The same settings and seed give the same text on the same machine.

        Args:
            prompt, settings: as of `submit`.

        Raises:
            ShuyuanError: a setting makes no sense; it is raised here, before the first piece is asked for.
        """
        return self._pieces(self._request(prompt, **settings))

    def generate_all(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        seed: int = 0,
        done: Callable[[int], None] = lambda _: None,
        **settings: Any,
    ) -> list[str]:
        """Continues many texts together; a slot takes the next prompt as soon as its text ends.

        Args:
            prompts: the beginnings; the n-th, counted from 0, has the seed `seed` + n.
            seed: of the first prompt.
            done: told of each text that has ended, by its number.
            settings: as of `submit`.

        Returns:
            What `generate` gives for each, joined. Where torch computes the model, sums are taken in another order when sequences
            share a step, so that where two tokens are as good as equally likely, the other may be drawn.

        Raises:
            ShuyuanError: a setting makes no sense.
        """
        texts = [self._request(prompt, seed=seed + n, **settings) for n, prompt in enumerate(prompts)]
        numbers = {id(text): n for n, text in enumerate(texts)}
        self._waiting += texts
        joined = [""] * len(texts)
        try:
            while not all(text.over for text in texts):
                for text, said in self._handed_out(set(numbers)):
                    joined[numbers[id(text)]] += said.text
                    if text.over:
                        done(numbers[id(text)])
        finally:
            for text in texts:
                self.cancel(text)
        return joined

    def _pieces(self, text: Request) -> Iterator[str]:
        self._waiting.append(text)
        try:
            while text.ready or not text.over:
                if text.ready:
                    yield text.ready.popleft()
                else:
                    for _, said in self._handed_out({id(text)}):
                        if said.text:
                            text.ready.append(said.text)
        finally:
            self.cancel(text)

    def _handed_out(self, wanted: set[int]) -> Iterator[tuple[Request, Said]]:
        """One step: what it gave the wanted texts; what it gave others waits in them."""
        for text, said in self.step():
            if id(text) in wanted:
                yield text, said
            elif said.text:
                text.ready.append(said.text)

    # ---- step by step ------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a text is on its way."""
        return bool(self._active or self._waiting)

    def reserve(self) -> None:
        """Sets aside the memory of all slots at their full length, so that nothing is asked for later."""
        self._open(self._most, self._model.context)

    def submit(self, prompt: str | Sequence[int], **settings: Any) -> Request:
        """Lets a text join; nothing is computed yet.

        Args:
            prompt: the text's beginning, which is not given again; an empty one begins a new record. Token ids are a task's
                prompt: the text then ends where the context does, since without its prompt it would answer nothing.
            settings: any of these, by name:

                - max_tokens: tokens to generate at most. Default 200.
                - temperature, top_k, top_p: as in `Sampling`.
                - seed: start of the random choices, 0 to 2**63 - 1. Default 0.
                - end_id: a token that ends the text too, beside the end token.
                - stop: strings that end it, and are not given.
                - logprobs: of how many of the likeliest tokens the probabilities are told, 0 to 20, beside the drawn one's;
                  none by default.
                - tenant: whose text it is. What another text of the same tenant began with may be remembered, and is then not
                  read again; it never is for others, nor without a tenant.

        Raises:
            ShuyuanError: a setting makes no sense, or the prompt's tokens are more than the model sees.
        """
        text = self._request(prompt, **settings)
        self._waiting.append(text)
        return text

    def cancel(self, text: Request) -> None:
        """Ends a text; its slot is free at once. One that is over already stays as it is.

        Args:
            text: as `submit` gave it.
        """
        if text.over:
            return
        text.cancelled = True
        if text in self._waiting:
            self._waiting.remove(text)
        for slot, other in self._active.items():
            if other is text:
                self._free(slot)
                return

    def step(self) -> list[tuple[Request, Said]]:
        """Lets waiting texts in, reads on in their prompts, and gives each other text a token.

        Raises:
            ShuyuanError: the model's output is not a number; nothing is on its way any more.
        """
        said: list[tuple[Request, Said]] = []
        try:
            self._admit(said)
            newest = {slot: text.tokens[-1] for slot, text in self._active.items() if not text.reading}
            if self._active:
                for slot, logits in self._slots.decode(newest).items():
                    said.append(self._take(slot, np.asarray(logits)))
        except ShuyuanError:
            for text in [*self._active.values(), *self._waiting]:
                self.cancel(text)
            raise
        return said

    def _admit(self, said: list[tuple[Request, Said]]) -> None:
        """Gives slots to waiting texts, first come, first served."""
        context = self._model.context
        if self._waiting and not self._active:
            longest = max(text.length + text.tokens_left for text in self._waiting)
            self._open(min(self._most, len(self._waiting)), min(context, longest))
        while self._waiting and self._slots.idle:
            text = self._waiting[0]
            self._fit(text, context)
            if min(context, text.length + text.tokens_left) > self._opened[1]:
                return  # it waits for longer slots, which come when these are free
            self._waiting.popleft()
            slot, logits = self._slots.begin(text.seen, text.tenant)
            self._active[slot] = text
            text.reading = logits is None
            if logits is not None:
                said.append(self._take(slot, np.asarray(logits)))

    def _take(self, slot: int, logits_V: Floats) -> tuple[Request, Said]:
        text = self._active[slot]
        text.reading = False
        said = text.take(logits_V)
        if text.over or text.length > self._model.context:
            self._free(slot)
            if not text.over:
                self._waiting.appendleft(text)
        return text, said

    def _free(self, slot: int) -> None:
        self._slots.free(slot)
        del self._active[slot]

    def _open(self, count: int, capacity: int) -> None:
        """Opens slots where those that are there are too few or too short; nothing is on its way."""
        there, holds = self._opened
        if count > there or capacity > holds:
            self._opened = max(count, there), max(capacity, holds)
            self._slots = None  # its memory is free before more is taken
            self._slots = open_slots(self._model, *self._opened)

    def _fit(self, text: Request, context: int) -> None:
        """Cuts a text that is longer than the context to its last part, half a context long."""
        if text.length > context:
            text.start = len(text.tokens) - max(1, context // 2)
            self._progress.say(
                "inference.window",
                f"The model sees {context} tokens at once: of longer texts it sees the last {context // 2} or more.",
            )

    def _request(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        end_id: int | None = None,
        stop: Sequence[str] = (),
        logprobs: int | None = None,
        tenant: str | None = None,
    ) -> Request:
        sampling = Sampling(temperature, top_k, top_p)
        ends = {self._tokenizer.end_id} | ({end_id} if end_id is not None else set())
        wanted = Wanted(max_tokens, sampling, seed, ends, tuple(stop), logprobs)
        if isinstance(prompt, str):
            tokens = [self._tokenizer.end_id, *self._tokenizer.encode(prompt)]
        else:
            tokens = list(prompt)
            if not tokens or min(tokens) < 0 or max(tokens) >= self._tokenizer.vocab_size:
                allowed = f"at least one token, from 0 to {self._tokenizer.vocab_size - 1}"
                raise bad_setting("prompt", tokens[:3], allowed)
            wanted = replace(wanted, max_tokens=max(1, min(max_tokens, self._room(tokens))))
        return Request(self._tokenizer, tokens, wanted, tenant)

    def _room(self, tokens: Sequence[int]) -> int:
        """Tokens that may follow a task's prompt."""
        context = self._model.context
        if len(tokens) > context:
            raise ShuyuanError(
                "inference.too-long",
                f"The model sees {context} tokens at once, and the prompt has {len(tokens)}.",
                mend="Shorten it, or train with a larger `model.context`.",
            )
        return context - len(tokens) + 1
