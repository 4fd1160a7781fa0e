"""One text that is being continued: how its tokens are drawn, what they say, and where it ends.

Shapes: V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ..data import Tokenizer
from .sampling import Floats, Points, Sampling, bad_setting, choose, log_probabilities
from .stream import StopStrings, TextStream

Finish = Literal["stop", "length"]
MOST_LOGPROBS, MOST_STOPS = 20, 16


class Drawn(NamedTuple):
    """A token that was drawn, with the logarithm of its probability before temperature, and the likeliest in its place."""

    text: str
    logprob: float
    top: list[tuple[str, float]]


@dataclass(frozen=True)
class Said:
    """What one step gave one text.

    Attributes:
        text: in whole characters, up to a stop string; what may be the beginning of one waits for the next step.
        tokens: those drawn, where they were asked for; never the one that ends the text.
        finish: why the text ended here: "stop" at an end token or stop string, "length" at the most tokens; None: it goes on.
    """

    text: str
    tokens: Sequence[Drawn] = ()
    finish: Finish | None = None


@dataclass(frozen=True)
class Wanted:
    """How a text goes on.

    Args:
        max_tokens: tokens at most.
        sampling: how they are drawn.
        seed: start of the random choices, 0 to 2**63 - 1.
        ends: tokens that end it.
        stop: strings that end it, and are not given.
        logprobs: of how many of the likeliest tokens the probabilities are told, beside the drawn one's. None: of none.

    Raises:
        ShuyuanError: a setting makes no sense.
    """

    max_tokens: int
    sampling: Sampling
    seed: int
    ends: Collection[int]
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise bad_setting("max_tokens", self.max_tokens, "at least 1")
        if not 0 <= self.seed < 2**63:
            raise bad_setting("seed", self.seed, "from 0 to 2**63 - 1")
        if len(self.stop) > MOST_STOPS or not all(self.stop):
            raise bad_setting("stop", list(self.stop)[:3], f"up to {MOST_STOPS} strings, none of them empty")
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_LOGPROBS:
            raise bad_setting("logprobs", self.logprobs, f"from 0 to {MOST_LOGPROBS}, or left out")


class Request:
    """A text on its way through the engine.

    Args:
        tokenizer: decodes.
        tokens: the prompt's.
        wanted: how it goes on.
        tenant: whose it is; see `Engine.submit`.

    Attributes:
        tokens: of prompt and text, without the end.
        start: of the first token that the model still sees.
        prompt_tokens, completion_tokens: how many there were, and how many were drawn.
        finish: why it ended; None while it goes on.
        cancelled: whether nobody wants the rest.
        reading: whether its prompt is being read.
        ready: pieces of text that nobody has taken yet, where the engine hands them out one by one.
    """

    def __init__(self, tokenizer: Tokenizer, tokens: list[int], wanted: Wanted, tenant: str | None) -> None:
        self.tokens, self.start, self.tenant = tokens, 0, tenant
        self.prompt_tokens, self.completion_tokens = len(tokens), 0
        self.finish: Finish | None = None
        self.cancelled = self.reading = False
        self.ready: deque[str] = deque()
        self._tokenizer, self._wanted = tokenizer, wanted
        self._points = Points(wanted.seed)
        self._stream = TextStream(tokenizer, tokens)
        self._stops = StopStrings(wanted.stop)

    @property
    def over(self) -> bool:
        """Whether no token will be drawn any more."""
        return self.cancelled or self.finish is not None

    @property
    def seen(self) -> list[int]:
        """The tokens that the model sees."""
        return self.tokens[self.start :]

    @property
    def length(self) -> int:
        """How many these are."""
        return len(self.tokens) - self.start

    @property
    def tokens_left(self) -> int:
        """Tokens that may still be drawn."""
        return self._wanted.max_tokens - self.completion_tokens

    def take(self, logits_V: Floats) -> Said:
        """Draws the next token, and tells what it says.

        Args:
            logits_V: of the token after those seen; entries beyond the tokenizer's are left out.

        Raises:
            ShuyuanError: the logits hold NaN or infinity, or allow no token.
        """
        wanted, logits_V = self._wanted, logits_V[: self._tokenizer.vocab_size]
        token = choose(logits_V, wanted.sampling, self._points)
        self.completion_tokens += 1
        text, drawn = "", []
        if token in wanted.ends:
            self.finish = "stop"
        else:
            if wanted.logprobs is not None:
                drawn.append(self._drawn(logits_V, token, wanted.logprobs))
            self.tokens.append(token)
            text = self._stops.add(self._stream.add(token))
            if self._stops.found:
                self.finish = "stop"
            elif not self.tokens_left:
                self.finish = "length"
        return Said(text + (self._stops.rest() if self.finish else ""), drawn, self.finish)

    def _drawn(self, logits_V: Floats, token: int, count: int) -> Drawn:
        logs_V = log_probabilities(logits_V)
        best = np.argsort(-logs_V, kind="stable")[:count]
        top = [(self._text(int(each)), float(logs_V[each])) for each in best]
        return Drawn(self._text(token), float(logs_V[token]), top)

    def _text(self, token: int) -> str:
        return self._tokenizer.decode([token])
