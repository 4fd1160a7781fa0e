"""Answers in the forms that OpenAI's API gives them: whole, and in chunks."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .schemas import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChatRequest,
    ChunkChoice,
    Completion,
    CompletionRequest,
    Delta,
    Reply,
    TextChoice,
    TextLogprobs,
    TokenLogprob,
    TopLogprob,
)
from .visit import Visit


@dataclass
class Taken:
    """What a choice holds so far."""

    text: str
    tokens: list[Any]
    finish: Any = None


class ChatForm:
    """Replies as chat completions.

    Args:
        asked: what they answer.
    """

    def __init__(self, asked: ChatRequest) -> None:
        self._head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": asked.model,
        }
        self._count = asked.n or 1
        self._logprobs = bool(asked.logprobs)
        self._left_out = set() if asked.tells_usage else {"usage"}

    def whole(self, here: Visit, taken: Sequence[Taken]) -> ChatCompletion:
        """All answers, once they are there."""
        choices = [
            ChatChoice(
                index=number,
                message=Reply(content=each.text),
                logprobs=self._told(each.tokens),
                finish_reason=each.finish,
            )
            for number, each in enumerate(taken)
        ]
        return ChatCompletion(**self._head, choices=choices, usage=here.usage)

    def opening(self) -> list[str]:
        """What a stream begins with."""
        return [self._chunk(number, Delta(role="assistant", content="")) for number in range(self._count)]

    def chunks(self, number: int, piece: Any) -> list[str]:
        """What a piece of one answer becomes; empty pieces nothing."""
        chunks = []
        if piece.text or (self._logprobs and piece.tokens):
            chunks.append(self._chunk(number, Delta(content=piece.text), self._told(piece.tokens)))
        if piece.finish is not None:
            chunks.append(self._chunk(number, Delta(), finish=piece.finish))
        return chunks

    def last(self, here: Visit) -> str:
        """The chunk that tells the usage."""
        return ChatChunk(**self._head, choices=[], usage=here.usage).model_dump_json()

    def _chunk(
        self, number: int, delta: Delta, logprobs: ChatLogprobs | None = None, finish: Any = None
    ) -> str:
        choice = ChunkChoice(index=number, delta=delta, logprobs=logprobs, finish_reason=finish)
        return ChatChunk(**self._head, choices=[choice]).model_dump_json(exclude=self._left_out)

    def _told(self, tokens: Sequence[Any]) -> ChatLogprobs | None:
        if not self._logprobs:
            return None
        told = [
            TokenLogprob(
                **_token(text, logprob), top_logprobs=[TopLogprob(**_token(*other)) for other in top]
            )
            for text, logprob, top in tokens
        ]
        return ChatLogprobs(content=told)


class TextForm:
    """Continuations as completions.

    Args:
        asked: what they answer.
    """

    def __init__(self, asked: CompletionRequest) -> None:
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": asked.model,
        }
        self._logprobs = asked.logprobs
        self._left_out = set() if asked.tells_usage else {"usage"}
        self._offsets: dict[int, int] = {}

    def whole(self, here: Visit, taken: Sequence[Taken]) -> Completion:
        """All answers, once they are there."""
        choices = [
            TextChoice(
                index=number,
                text=each.text,
                logprobs=self._told(number, each.tokens),
                finish_reason=each.finish,
            )
            for number, each in enumerate(taken)
        ]
        return Completion(**self._head, choices=choices, usage=here.usage)

    def opening(self) -> list[str]:
        """What a stream begins with."""
        return []

    def chunks(self, number: int, piece: Any) -> list[str]:
        """What a piece of one answer becomes; empty pieces nothing."""
        if not piece.text and piece.finish is None and not (piece.tokens and self._logprobs is not None):
            return []
        choice = TextChoice(
            index=number,
            text=piece.text,
            logprobs=self._told(number, piece.tokens),
            finish_reason=piece.finish,
        )
        return [Completion(**self._head, choices=[choice]).model_dump_json(exclude=self._left_out)]

    def last(self, here: Visit) -> str:
        """The chunk that tells the usage."""
        return Completion(**self._head, choices=[], usage=here.usage).model_dump_json()

    def _told(self, number: int, tokens: Sequence[Any]) -> TextLogprobs | None:
        if self._logprobs is None:
            return None
        at, offsets = self._offsets.get(number, 0), []
        for text, _, _ in tokens:
            offsets.append(at)
            at += len(text)
        self._offsets[number] = at
        return TextLogprobs(
            tokens=[text for text, _, _ in tokens],
            token_logprobs=[logprob for _, logprob, _ in tokens],
            top_logprobs=[dict(top) for _, _, top in tokens] if self._logprobs else None,
            text_offset=offsets,
        )


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}
