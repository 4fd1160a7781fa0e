"""Messages of a chat as people store them: OpenAI's list, ShareGPT's conversations, Alpaca's instruction and output."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import DataError

ROLES = ("system", "user", "assistant")
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
CONVERSATIONS = "conversations"  # ShareGPT's column
PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "response"),
    ("question", "answer"),
)
ALPACA = ("instruction", "output")  # and `input`, which may be empty


class Message(NamedTuple):
    """Who speaks, and what is said."""

    role: str
    content: str


def messages_in(row: Mapping[str, Any], column: str, where: str) -> list[Message]:
    """The messages of a row, up to the last reply.

    Args:
        row: with a column of messages, ShareGPT's `conversations`, Alpaca's `instruction`, `input` and `output`, or one of PAIRS.
        column: the column of messages.
        where: file and line, for errors.

    Raises:
        DataError: there is no such column, or the messages are none: a role is unknown, a content empty, the order wrong, or no
            reply there.
    """
    if column in row:
        return checked(_listed(row[column], column, where), where)
    if CONVERSATIONS in row:
        return checked(_listed(row[CONVERSATIONS], CONVERSATIONS, where), where)
    if all(name in row for name in ALPACA):
        return checked(_of_alpaca(row), where)
    for asked, replied in PAIRS:
        if asked in row and replied in row:
            said = [{"role": "user", "content": row[asked]}, {"role": "assistant", "content": row[replied]}]
            return checked(said, where)
    raise DataError(
        "data.no-messages",
        f"There is no column `{column}`, and none of ShareGPT's or Alpaca's, nor prompt and completion.",
        where=where,
        mend=f"Name one of these as `data.messages`: {', '.join(map(str, row)) or 'none found'}.",
    )


def checked(messages: Sequence[Any], where: str, *, replied: bool = True) -> list[Message]:
    """The messages, looked through: a system message first or none, then questions and replies in turn.

    Args:
        messages: tables of {role, content} or {from, value}.
        where: said in errors.
        replied: True: messages behind the last reply are dropped, since nothing is learned from them; False: the last one must
            be the user's.

    Raises:
        DataError: with the number of the message.
    """
    chat = [_message(each, f"{where}, message {number}") for number, each in enumerate(messages, 1)]
    expected = "user"
    for number, message in enumerate(chat, 1):
        if message.role == "system" and number == 1:
            continue
        if message.role != expected:
            raise DataError(
                "data.message-order",
                f"A message of `{expected}` is expected here, and this one is of `{message.role}`.",
                where=f"{where}, message {number}",
                mend="Begin with a system message or the user's, and let user and assistant take turns.",
            )
        expected = "assistant" if expected == "user" else "user"
    if replied and chat and chat[-1].role != "assistant":
        chat = chat[:-1]
    if not chat or (chat[-1].role == "assistant") != replied:
        raise DataError(
            "data.no-reply",
            "There is no reply of `assistant` to learn from."
            if replied
            else "The last message is not the user's.",
            where=where,
            mend="Add it, or take the record out.",
        )
    return chat


def _message(value: Any, where: str) -> Message:
    table = value if isinstance(value, dict) else {}
    role, content = table.get("role", table.get("from")), table.get("content", table.get("value"))
    if not isinstance(role, str) or not isinstance(content, str):
        raise DataError(
            "data.not-a-message",
            "This is no message: it has no role and content that are text.",
            where=where,
            mend='Write {"role": "user", "content": "…"}, or ShareGPT\'s {"from": "human", "value": "…"}.',
        )
    role = SHAREGPT_ROLES.get(role, role)
    if role not in ROLES:
        near = difflib.get_close_matches(role, ROLES, n=1)
        hint = f'Did you mean "{near[0]}"? ' if near else ""
        raise DataError(
            "data.unknown-role",
            f'The role "{role[:40]}" is none of: {", ".join(ROLES)}; nor human or gpt.',
            where=where,
            mend=f"{hint}Change it, or take the record out.",
        )
    if not content.strip():
        raise DataError(
            "data.empty-message",
            f"The message of `{role}` is empty.",
            where=where,
            mend="Write it, or take the record out.",
        )
    return Message(role, content.strip())


def _listed(value: Any, column: str, where: str) -> list[Any]:
    """The list in a column; in a table of text it is written as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, list):
        raise DataError(
            "data.not-messages",
            f"The column `{column}` holds no list of messages.",
            where=where,
            mend='Write [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}].',
        )
    return value


def _of_alpaca(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    question, more = row["instruction"], row.get("input")
    if isinstance(question, str) and isinstance(more, str) and more.strip():
        question = f"{question.strip()}\n\n{more.strip()}"
    system = row.get("system")
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}]
    return [{"role": "system", "content": system}, *said] if system else said
