"""Chat templates: how the messages of a chat become one text. Rendered as transformers renders them, in jinja2's sandbox.

A template never sees what the messages say: marks stand for the texts, and are replaced afterwards. So a message cannot act as
a part of the template, nor spell its special tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..errors import DataError, first_line

# What chats are written with where the model to start from brings no template: a line that says who speaks, the message,
# the end token.
BUILT_IN = (
    "{% for message in messages %}{{ message['role'] + ':\n' + message['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
)
END_MARK = "\ue002"  # stands for the end token, whatever a run's tokenizer calls it
_MARK = re.compile("\ue000(\\d+)\ue001")
Shape = tuple[str, ...]  # the roles of a chat's messages, in order


@dataclass(frozen=True)
class Template:
    """A chat template with the special tokens that it uses.

    Attributes:
        text: jinja2.
        tokens: named special tokens, such as bos_token and eos_token.
        special: how all special tokens of the tokenizer are spelt.
    """

    text: str = BUILT_IN
    tokens: tuple[tuple[str, str], ...] = (("bos_token", ""), ("eos_token", END_MARK))
    special: frozenset[str] = frozenset({END_MARK})

    def around(self, roles: Shape, *, reply: bool = False) -> list[str]:
        """The words of the template before the first message, between each two, and after the last.

        Args:
            roles: of the messages.
            reply: whether the text goes on to where a reply begins.

        Raises:
            DataError: the template refuses such a chat, or leaves a message out.
        """
        return list(_around(self, roles, reply))

    def opening(self, roles: Shape) -> str:
        """The words after the last message with which a reply begins.

        Args:
            roles: of the messages.

        Raises:
            DataError: the template does not say where a reply begins.
        """
        without, longer = self.around(roles)[-1], self.around(roles, reply=True)[-1]
        if not longer.startswith(without) or longer == without:
            raise _bad("it does not say where a reply begins (add_generation_prompt)")
        return longer.removeprefix(without)

    def split(self, words: str) -> tuple[str, str]:
        """Words behind a message: those up to its end-of-turn token with it, and the rest; ("", words) if it has none.

        Args:
            words: as `around` gives them.
        """
        found = re.search("|".join(map(re.escape, sorted(self.special, key=len, reverse=True))), words)
        return (words[: found.end()], words[found.end() :]) if found and found[0] else ("", words)


@lru_cache(maxsize=4096)
def _around(template: Template, roles: Shape, reply: bool) -> tuple[str, ...]:
    messages = [{"role": role, "content": f"\ue000{place}\ue001"} for place, role in enumerate(roles)]
    text = _rendered(template, messages, reply)
    if [int(found[1]) for found in _MARK.finditer(text)] != list(range(len(roles))):
        raise _bad("it leaves messages out, or changes their order")
    return tuple(_MARK.split(text)[::2])


def _rendered(template: Template, messages: list[dict[str, str]], reply: bool) -> str:
    import jinja2

    tokens = dict(template.tokens)
    try:
        rendered: str = _compiled(template.text).render(
            messages=messages, tools=None, documents=None, add_generation_prompt=reply, **tokens
        )
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise _bad(first_line(error)) from None
    return rendered


@lru_cache(maxsize=8)
def _compiled(text: str) -> Any:
    """The template in the environment that transformers gives it: a sandbox that changes nothing outside."""
    import json
    from datetime import UTC, datetime

    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, **how: Any) -> str:
        return json.dumps(value, ensure_ascii=False, **how)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    # A template that writes the date would make a run depend on the day: it is always the same one.
    environment.globals["strftime_now"] = datetime(2026, 1, 1, tzinfo=UTC).strftime
    return environment.from_string(text)


def _bad(why: str) -> DataError:
    return DataError(
        "data.bad-template",
        f"The chat template cannot be used: {why}.",
        where="chat_template",
        mend="Change the messages to what it takes, or take the template out of the model's folder: then the built-in one is used.",
    )
