"""Chat: messages in, the next reply out. Replies are learned, each with the token that ends it, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import DataError
from .base import TASKS, Example, Piece, Setting
from .measures import chrf, chrf_of, distinct, with_interval
from .messages import Message, checked, messages_in
from .prompted import Case, Prompted, memory_of
from .template import END_MARK, Template


class Chat(Prompted):
    """Messages, written as the chat template has it. Of a chat that is too long the oldest turns are left out, never the system
    message.

    Args:
        template: how messages are written.
    """

    name = "chat"
    command = ("chat", "")
    templated = True
    needs = ("messages",)
    measure = "chrf"
    libraries = ("sacrebleu",)

    def __init__(self, template: Template | None = None) -> None:
        self.template = template or Template()

    def configured(self, setting: Setting) -> Chat:
        return Chat(setting.template)

    def example(self, row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> Example:
        messages = messages_in(row, fields["messages"], where)
        return Example(tuple(self._pieces(messages)))

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> tuple[Piece, ...]:
        """What the model is given to reply to messages, of which the last is the user's.

        Args:
            messages: {"role", "content"} of each, in order.

        Raises:
            DataError: the messages are none, or not in order.
        """
        chat = checked(messages, "messages", replied=False)
        roles = tuple(message.role for message in chat)
        return tuple(self._given(chat, self.template.around(roles, reply=True)))

    def score(self, answer: str, right: Sequence[str]) -> float:
        return max(chrf_of(answer, each) for each in right)

    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> dict[str, float]:
        """chrF beside what was replied, and how many of the replies' words and pairs of words are different ones.

        Args:
            cases, answers: as of `Prompted.scores`.

        Returns:
            {chrf, chrf_low, chrf_high, distinct_1, distinct_2}.
        """
        told = with_interval("chrf", chrf(answers, [case.right[0] for case in cases]))
        return told | {f"distinct_{size}": distinct(answers, size) for size in (1, 2)}

    def baselines(self, cases: Sequence[Case], training: Sequence[Case]) -> dict[str, list[str]]:
        """What was replied to the most similar message of the training records.

        Args:
            cases, training: as of `Prompted.baselines`.

        Returns:
            {memory}; nothing without training records.
        """
        return {"memory": memory_of(cases, training)} if training else {}

    @property
    def ending(self) -> tuple[Piece, ...]:
        ends, _ = self.template.split(self.template.around(("user", "assistant"))[-1])
        if not ends:
            raise _no_end()
        return tuple(self._markup(ends, None, learn=True))

    def parse(self, text: str) -> str:
        """The reply, without the thoughts before it that some models write down.

        Args:
            text: what the model wrote, without its end token.
        """
        return re.sub(r"^\s*<think>.*?(</think>|$)", "", text, flags=re.DOTALL).strip()

    def _given(self, chat: list[Message], around: list[str]) -> list[Piece]:
        """All messages as they are given, none of them learned."""
        pieces = [*self.opening[1:], *self._markup(around[0], None)]
        for place, message in enumerate(chat):
            turn = _turn(chat, place)
            pieces.append(Piece(message.content, learn=False, turn=turn))
            ends, begins = self.template.split(around[place + 1])
            pieces += self._markup(ends, turn) + self._markup(begins, _turn(chat, place + 1))
        return pieces

    def _pieces(self, chat: list[Message]) -> list[Piece]:
        """All messages up to the last reply, the replies learned."""
        roles = tuple(message.role for message in chat)
        around = self.template.around(roles)
        pieces: list[Piece] = [*self.opening[1:]]
        begins = around[0]
        for place, message in enumerate(chat):
            turn, reply = _turn(chat, place), message.role == "assistant"
            opening = self.template.opening(roles[:place]) if reply else ""
            # Words that follow the opening of a reply, as an empty thought does, are the model's to write.
            asked, sign, own = begins.rpartition(opening) if opening else (begins, "", "")
            pieces += self._markup(asked + sign if sign else begins, turn)
            pieces += self._markup(own, turn, learn=True) if sign else []
            pieces.append(Piece(message.content, reply, turn=turn))
            ends, begins = self.template.split(around[place + 1])
            if reply and not ends:
                raise _no_end()
            pieces += self._markup(ends, turn, learn=reply)
        return pieces

    def _markup(self, words: str, turn: int | None, *, learn: bool = False) -> list[Piece]:
        """Words of the template, with the end token where it stands among them."""
        pieces = []
        for place, part in enumerate(words.split(END_MARK)):
            if place:
                pieces.append(Piece("", learn, "end", turn=turn))
            if part:
                pieces.append(Piece(part, learn, "markup", turn=turn))
        return pieces


def _turn(chat: Sequence[Message], place: int) -> int | None:
    """Which turn a message belongs to, a question with its reply; the system message and the last turn stay, and have none."""
    first = chat[0].role == "system"
    if place < first or place >= len(chat):
        return None
    last = (len(chat) - 1 - first) // 2
    turn = (place - first) // 2
    return None if turn == last else turn


def _no_end() -> DataError:
    return DataError(
        "data.no-end-of-turn",
        "The chat template ends a reply with no special token, so the model could not learn to stop.",
        where="chat_template",
        mend="Take the template out of the model's folder: then the built-in one is used.",
    )


TASKS[Chat.name] = Chat()
