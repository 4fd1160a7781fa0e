"""The engine: prompts in, text out, many sequences at once. It knows a model only as slots."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..data import Tokenizer
from ..errors import ShuyuanError
from ..models import AnyNetwork, open_slots
from ..progress import Progress
from .sampling import Floats, Points, Sampling, bad_setting, choose
from .stream import TextStream


class Engine:
    """Continues texts with a model.

    The model sees `context` tokens at once. A text that grows longer is cut to its last context / 2 tokens,
    which are read again, as often as needed; the first time, `progress` is told.

    Args:
        model: the network.
        tokenizer: its tokenizer.
        slots: sequences computed at once by `generate_all`.
        progress: is told when a text is cut.

    Raises:
        ShuyuanError: the tokenizer has more entries than the model.

    Example:
        >>> for piece in Engine(model, tokenizer).generate("Once", max_tokens=50, seed=1):
        ...     sys.stdout.write(piece)
    """

    def __init__(
        self, model: AnyNetwork, tokenizer: Tokenizer, *, slots: int = 16, progress: Progress | None = None
    ) -> None:
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ShuyuanError(
                "inference.other-tokenizer",
                f"The tokenizer has {tokenizer.vocab_size} entries and the model {model.config.vocab_size}.",
                mend="Use the tokenizer that the model was trained with.",
            )
        self._model = model
        self._tokenizer = tokenizer
        self._slots = slots
        self._progress = progress or Progress()

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        end_id: int | None = None,
    ) -> Iterator[str]:
        """Continues a text, piece by piece, in whole characters, until the end token or `max_tokens`.

        The same settings and seed give the same text on the same machine.

        Args:
            prompt: the text's beginning, which is not given again; an empty one begins a new record. Token ids are a task's
                prompt: the text then ends where the context does, since without its prompt it would answer nothing.
            max_tokens: tokens to generate at most. Default 200.
            temperature, top_k, top_p: as in `Sampling`.
            seed: start of the random choices, 0 to 2**63 - 1. Default 0.
            end_id: a token that ends the text too, beside the end token.

        Raises:
            ShuyuanError: a setting makes no sense; it is raised here, before the first piece is asked for.
        """
        sampling = Sampling(temperature, top_k, top_p)
        text = self._begin(prompt, max_tokens, sampling, seed, end_id)
        return (piece for _, piece in self._run([text]))

    def generate_all(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        max_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        end_id: int | None = None,
        done: Callable[[int], None] = lambda _: None,
    ) -> list[str]:
        """Continues many texts together; a slot takes the next prompt as soon as its text ends.

        Args:
            prompts: the beginnings; the n-th, counted from 0, has the seed `seed` + n.
            max_tokens, temperature, top_k, top_p, end_id: as in `generate`.
            seed: of the first prompt.
            done: told of each text that has ended, by its number.

        Returns:
            What `generate` gives for each, joined. Sums are taken in another order when sequences share a step, so
            that where two tokens are as good as equally likely, the other may be drawn.

        Raises:
            ShuyuanError: a setting makes no sense.
        """
        sampling = Sampling(temperature, top_k, top_p)
        texts = [
            self._begin(prompt, max_tokens, sampling, seed + n, end_id) for n, prompt in enumerate(prompts)
        ]
        joined = [""] * len(texts)
        for number, piece in self._run(texts, done):
            joined[number] += piece
        return joined

    def _begin(
        self,
        prompt: str | Sequence[int],
        max_tokens: int,
        sampling: Sampling,
        seed: int,
        end_id: int | None,
    ) -> _Text:
        if max_tokens < 1:
            raise bad_setting("max_tokens", max_tokens, "at least 1")
        if not 0 <= seed < 2**63:
            raise bad_setting("seed", seed, "from 0 to 2**63 - 1")
        if isinstance(prompt, str):
            tokens = [self._tokenizer.end_id, *self._tokenizer.encode(prompt)]
        else:
            tokens = list(prompt)
            max_tokens = max(1, min(max_tokens, self._model.context - len(tokens) + 1))
        ends = {self._tokenizer.end_id} | ({end_id} if end_id is not None else set())
        return _Text(self._tokenizer, tokens, max_tokens, sampling, seed, ends)

    def _run(
        self, texts: Sequence[_Text], done: Callable[[int], None] = lambda _: None
    ) -> Iterator[tuple[int, str]]:
        """Runs all texts to their end; yields (number of the text, piece)."""
        context = self._model.context
        longest = max((len(text.tokens) + text.tokens_left for text in texts), default=0)
        slots = open_slots(self._model, min(self._slots, len(texts)), min(context, longest))
        waiting = deque(enumerate(texts))
        active: dict[int, tuple[int, _Text]] = {}
        while waiting or active:
            newest = {slot: text.tokens[-1] for slot, (_, text) in active.items()}
            logits = slots.decode(newest) if newest else {}
            while waiting and slots.idle:
                number, text = waiting.popleft()
                self._fit(text, context)
                slot, logits[slot] = slots.prefill(text.tokens)
                active[slot] = number, text
            for slot, (number, text) in list(active.items()):
                piece = text.take(np.asarray(logits[slot]))
                if piece:
                    yield number, piece
                if text.tokens_left == 0 or len(text.tokens) > context:
                    slots.free(slot)
                    del active[slot]
                    if text.tokens_left:
                        waiting.appendleft((number, text))
                    else:
                        done(number)

    def _fit(self, text: _Text, context: int) -> None:
        """Cuts a text that is longer than the context to its last part, half a context long."""
        if len(text.tokens) > context:
            text.tokens = text.tokens[-max(1, context // 2) :]
            self._progress.say(
                "inference.window",
                f"The model sees {context} tokens at once: of longer texts it sees the last {context // 2} or more.",
            )


class _Text:
    """One text that is being continued: the tokens that the model sees of it, and how the next is drawn."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        tokens: list[int],
        max_tokens: int,
        sampling: Sampling,
        seed: int,
        ends: set[int],
    ) -> None:
        self.tokens = tokens
        self.tokens_left = max_tokens
        self._sampling = sampling
        self._points = Points(seed)
        self._entries = tokenizer.vocab_size
        self._ends = ends
        self._stream = TextStream(tokenizer, tokens)

    def take(self, logits_V: Floats) -> str:
        """Draws the next token and gives the text that it completes; the end token ends the text."""
        token = choose(logits_V[: self._entries], self._sampling, self._points)
        if token in self._ends:
            self.tokens_left = 0
            return ""
        self.tokens.append(token)
        self.tokens_left -= 1
        return self._stream.add(token)
